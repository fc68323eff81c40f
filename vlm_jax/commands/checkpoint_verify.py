"""`vlm-jax checkpoint verify`."""

from __future__ import annotations

import argparse
import json
import sys

HELP = """Check the checkpoints of a work directory: every file against the sha256 that was taken when it was written.

DIR is a work directory, its checkpoints/, or one step's directory. Exit code 0 where every step is whole, 2 where one
is damaged; `vlm-jax train` and `--step best|last` then use the next good one, and say so.

example:
  vlm-jax checkpoint verify runs/demo
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("path", metavar="DIR", help="a work directory, its checkpoints/, or one step's directory")
    parser.add_argument("--step", type=int, metavar="N", help="this step alone (default: all)")
    parser.add_argument("--json", action="store_true", help="print {step: [problem, ...]} on stdout")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 where all is whole, 2 where something is damaged."""
    from vlm_jax.checkpoint.verify import verify
    from vlm_jax.checkpoint.work_directory import work_directory

    found = verify(work_directory(args.path, "DIR"), args.step)
    if args.json:
        print(json.dumps(found, indent=1))
    for step, problems in found.items():
        for line in problems:
            print(f"{step}: {line}", file=sys.stderr)
        if not problems and not args.json:
            print(f"{step}: whole")
    damaged = [step for step, problems in found.items() if problems]
    if damaged:
        good = [step for step, problems in found.items() if not problems]
        rest = f"{', '.join(good)} whole" if good else "none is whole"
        print(f"vlm-jax: error: {len(damaged)} of {len(found)} steps damaged; {rest}", file=sys.stderr)
    return 2 if damaged else 0
