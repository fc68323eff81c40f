"""`vlm-jax data check`."""

from __future__ import annotations

import argparse

HELP = """The data doctor: look for broken images and masks, leaks, and rows that contradict each other.

Exit code 0 without errors (warnings allowed), 2 with errors.

example:
  vlm-jax data check data/vocalfolds
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("path", metavar="DIR", help="a data set, as `data build` or `data simulate` wrote it")
    parser.add_argument("--json", action="store_true", help="all findings as one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Exit code 0, or 2 where there are errors."""
    import dataclasses
    import json

    from vlm_jax.data.check import check_dataset, render

    diagnosis = check_dataset(args.path)
    if args.json:
        findings = [dataclasses.asdict(finding) for finding in diagnosis.findings]
        counts = {"errors": diagnosis.count("error"), "warnings": diagnosis.count("warning")}
        looked_at = {"frames": diagnosis.frames, "sentences": diagnosis.sentences}
        print(json.dumps({**counts, **looked_at, "findings": findings}, ensure_ascii=False, indent=2))
    else:
        print(render(diagnosis))
    return 2 if diagnosis.count("error") else 0
