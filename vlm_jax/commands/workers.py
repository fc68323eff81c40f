"""The flag `--workers` of commands that take one procedure a thread."""

from __future__ import annotations

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the flag."""
    parser.add_argument("--workers", type=int, metavar="N", help="threads, a procedure each; default: one a core")


def given(args: argparse.Namespace) -> int:
    """Threads to start.

    Raises:
      UserError: fewer than one was asked for.
    """
    from vlm_jax.errors import UserError
    from vlm_jax.parallel.runtime import cores

    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers must be at least 1, got {args.workers}")
    return args.workers or cores()
