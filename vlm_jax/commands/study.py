"""`vlm-jax study`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

HELP = """Compare systems on the same data: every system, every fold, every seed, one table.

The same command goes on where it stopped, and several of it in one work directory share the runs. Writes table.csv,
table.tex, contrasts.json, coverage.json and report.html.

example:
  vlm-jax study --config configs/study.py:smoke --workdir runs/study --processes 2
"""


def schema() -> type:
    """What --config.key=value sets."""
    from vlm_jax.config.study import StudyConfig

    return StudyConfig


def load_settings(spec: str, overrides: Any) -> Any:
    """The settings that `--config` and `--config.key=value` give."""
    from vlm_jax.config.study import load_study

    return load_study(spec, overrides)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command; `--config.a.b=v` are read by the shared parser."""
    parser.add_argument("--config", required=True, metavar="FILE:ARG", help="e.g. configs/study.py:smoke")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="runs and results go here, on a local disk")
    parser.add_argument("--processes", type=int, default=1, metavar="N",
                        help="share the runs, and the cores, between N processes of this machine: for small models on "
                        "a CPU, which one process cannot keep busy (default: %(default)s)")  # fmt: skip
    parser.add_argument("--runs_only", action="store_true", help="write no table: another process does")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the table is written, 1 where a system failed, 3 when preempted and saved."""
    from vlm_jax.checkpoint.work_directory import work_directory
    from vlm_jax.study.processes import companions
    from vlm_jax.study.run import REPORT, TABLE, run_study

    study = load_settings(args.config, args.overrides)
    workdir = Path(work_directory(args.workdir, local=True))
    words = ["study", "--config", args.config, "--workdir", str(workdir)]
    words += [f"--config.{key}={value}" for key, value in dict(args.overrides).items()]
    with companions([*words, "--runs_only"], workdir, args.processes):
        code = run_study(study, workdir, runs_only=args.runs_only)
    if code == 0 and not args.runs_only:
        print(f"table   {workdir / TABLE}\nreport  {workdir / REPORT}")
    elif code == 1:
        print(f"study: some runs failed, no table yet; see {workdir}/runs", file=sys.stderr)
    return code
