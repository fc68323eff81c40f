"""`vlm-jax weights verify`."""

from __future__ import annotations

import argparse

from vlm_jax.commands.reasons import print_by_reason

HELP = """Check an export, imported weights or any file of weights: whole, complete, finite.

Of our own directories every sha256, every parameter's name and shape are compared; of every file, that all values are
finite. What the source held beside arrays is listed.

example:
  vlm-jax weights verify exports/demo
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument(
        "path", metavar="PATH", help="a directory of `weights export` or `import`, or a file of weights"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 where all is in order, 2 with what is not."""
    from vlm_jax.weights.verify import verify

    report = verify(args.path)
    print_by_reason("left out", report.left_out)
    print(
        f"{args.path} is in order: {report.kind}, {report.about}, {report.n_arrays} arrays, {report.n_values:,} values"
    )
    return 0
