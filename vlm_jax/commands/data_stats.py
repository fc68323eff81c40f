"""`vlm-jax data stats`."""

from __future__ import annotations

import argparse

HELP = """Figures of a data set: records, activities, prevalence of landmarks, sentences, keywords.

example:
  vlm-jax data stats data/vocalfolds --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("path", metavar="DIR", help="a data set, as `data build` or `data simulate` wrote it")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of a table")


def run(args: argparse.Namespace) -> int:
    """Exit code 0."""
    import json

    from vlm_jax.data.stats import dataset_stats, render
    from vlm_jax.data.store import open_dataset

    stats = dataset_stats(open_dataset(args.path))
    print(json.dumps(stats, ensure_ascii=False, indent=2) if args.json else render(stats))
    return 0
