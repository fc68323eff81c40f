"""`vlm-jax data build`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = """Bring a public data set, or your own by an adapter, into the one form on disk.

A build that was cut off goes on where it stopped when the same command is run again.

examples:
  vlm-jax data build --source labelled_frames --input clinic --out data/clinic
  vlm-jax data build --source vocalfolds --input downloads/vocalfolds --out data/vocalfolds
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    from vlm_jax.data.sources import SOURCES

    parser.add_argument("--source", required=True, metavar="NAME", help=f"adapter: {', '.join(sorted(SOURCES))}")
    parser.add_argument("--input", required=True, metavar="PATH", help="folder or file as the source lays it out")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the data set is written; then data.path")
    parser.add_argument("--licence", metavar="TEXT", help="terms of use, for the card; default: a LICENSE file's")
    parser.add_argument("--citation", metavar="TEXT", help="what to cite, for the card")


def run(args: argparse.Namespace) -> int:
    """Exit code 0; 2 for an unknown source or bad input, 1 for a full disk."""
    from vlm_jax.data.files import local_path
    from vlm_jax.data.sources import get_source
    from vlm_jax.data.store import open_dataset
    from vlm_jax.errors import UserError

    build = get_source(args.source)
    source = local_path(args.input, "--input")
    if not source.exists():
        raise UserError(f"--input '{args.input}' does not exist: give the folder where '{args.source}' was downloaded")
    build(source, Path(args.out), licence=args.licence, citation=args.citation)
    dataset = open_dataset(args.out)
    size = f"{len(dataset.frames)} frames, {len(dataset.tables.sentences)} sentences"
    print(f"data set {args.out}: {len(dataset.tables.procedures)} procedures, {size}", file=sys.stderr)
    return 0
