"""`vlm-jax doctor`."""

from __future__ import annotations

import argparse

HELP = """Say where a run's time went and what holds it up.

Reads the goodput ledger that `vlm-jax train` keeps in the work directory, while the run goes on or afterwards: seconds
of init, restore, compile, data wait, step, save, evaluation and of steps that were done twice. Names bottlenecks with
their evidence and what to change, the largest first; a healthy run has none. Starts no device. Exit code 0 either way.

example:
  vlm-jax doctor --workdir runs/light
  vlm-jax doctor --workdir runs/light --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("--workdir", required=True, metavar="DIR", help="of `vlm-jax train`; local or gs://")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the report."""
    import json

    from vlm_jax.checkpoint.work_directory import work_directory
    from vlm_jax.training.doctor import diagnose

    report = diagnose(work_directory(args.workdir))
    print(json.dumps(report) if args.json else _table(report))
    return 0


def _table(report: dict) -> str:
    """The same for a person."""
    n = report["processes"]
    lines = [
        f"{report['name']}: step {report['step']} of {report['steps']}, {report['status']}; "
        f"{report['starts']} start{'s' if report['starts'] > 1 else ''}, {n} process{'es' if n > 1 else ''}",
        "",
        f"{'':<14}{'seconds':>10}{'share':>8}",
    ]
    for name, seconds in report["seconds"].items():
        lines.append(f"{name.replace('_', ' '):<14}{seconds:>10.1f}{report['shares'][name]:>8.1%}")
    steady = report["steady"]
    lines += [
        "",
        f"goodput {report['goodput']:.1%}; {steady['seconds_per_step']:.3f} s a step, "
        f"{steady['examples_per_second']:.1f} examples/s; of a step: data wait {steady['data_wait']:.1%}, dispatch "
        f"{steady['dispatch']:.1%}, waiting for the device {steady['await']:.1%}, host {steady['host']:.1%}",
        f"a record: read {steady['read_ms']:.2f} ms, decode {steady['decode_ms']:.2f} ms, "
        f"prepare {steady['prepare_ms']:.2f} ms",
        "",
    ]
    for finding in report["findings"]:
        lines += [
            f"{finding['name']} ({finding['share']:.0%}): {finding['evidence']}",
            f"  change: {finding['change']}",
        ]
    if not report["findings"]:
        lines.append(report["note"] or "nothing holds this run up")
    return "\n".join(lines)
