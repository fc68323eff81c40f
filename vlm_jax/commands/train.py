"""`vlm-jax train`."""

from __future__ import annotations

import argparse

HELP = """Train a model, or go on with one: the same command resumes where it stopped.

DIR of --workdir may be a local directory or gs://BUCKET/... (extra gcs); data sets are local.

example:
  vlm-jax train --config configs/vlm.py:tiny --workdir runs/tiny --config.data.path=DIR
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command; `--config.a.b=v` are read by the shared parser."""
    parser.add_argument("--config", required=True, metavar="FILE:ARG", help="e.g. configs/vlm.py:light,no_text")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="checkpoints, metrics and evaluations go here")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when done, 3 when preempted and saved."""
    from vlm_jax.checkpoint.work_directory import work_directory
    from vlm_jax.config.load import load_config
    from vlm_jax.errors import UserError
    from vlm_jax.training.loop import train

    config = load_config(args.config, args.overrides)
    if not config.data.path:
        raise UserError("no data: give --config.data.path=DIR, as `vlm-jax data simulate|build --out DIR` named it")
    return train(config, str(work_directory(args.workdir)))
