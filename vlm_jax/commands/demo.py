"""`vlm-jax demo`: the main job from end to end, by the same commands that a person would type."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HELP = """Simulate, train, evaluate and predict on this machine, in minutes.

Prints each command before it runs it, so that each can be run alone. After a failure the same command goes on.

example:
  vlm-jax demo --workdir runs/demo
"""

SIMULATE = ("--procedures", "24", "--activities_per_procedure", "24", "--frames_per_procedure", "96")
SIZE = ("--image_size", "64", "--seed", "0")
CONFIG = "configs/vlm.py:tiny"
SPLIT = "kfold:3:0"  # 12 procedures to train on, 4 to choose thresholds on, 8 to test on
N_FRAMES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("--config", default=CONFIG, metavar="FILE:ARG", help=f"default: {CONFIG}")
    parser.add_argument("--workdir", default="runs/demo", metavar="DIR", help="default: runs/demo")
    parser.add_argument("--procedures", default="24", metavar="N", help="simulated procedures; default: 24")


def run(args: argparse.Namespace) -> int:
    """Every stage in turn, each by `args.run_command(argv)`; one that fails names itself, and a second run goes on."""
    workdir = Path(args.workdir)
    for name, argv in stages(args, workdir):
        if name == "predict":
            write_frames(workdir)
        print(f"\n$ vlm-jax {' '.join(argv)}", file=sys.stderr, flush=True)
        code: int | None = None
        try:
            code = args.run_command(argv)
        finally:
            if code != 0:
                again = f"`vlm-jax demo --workdir {workdir}` goes on from it"
                print(f"demo: the stage {name!r} stopped; {again}", file=sys.stderr)
        if code:
            return code
    print(summary(workdir))
    return 0


def stages(args: argparse.Namespace, workdir: Path) -> list[tuple[str, list[str]]]:
    """The command lines, in order."""
    data = str(workdir / "data")
    simulate = [*SIMULATE, *SIZE]
    simulate[simulate.index("--procedures") + 1] = args.procedures
    overrides = [f"--config.{key}={value}" for key, value in args.overrides]
    settings = [f"--config.data.path={data}", f"--config.data.split={SPLIT}", *overrides]
    return [
        ("simulate", ["data", "simulate", "--out", data, *simulate]),
        ("train", ["train", "--config", args.config, "--workdir", str(workdir), *settings]),
        ("evaluate", ["evaluate", "--workdir", str(workdir), "--split", "test"]),
        ("predict", ["predict", "--checkpoint", str(workdir), str(workdir / "frames.jsonl"),
                     "--out", str(workdir / "predictions.jsonl")]),
    ]  # fmt: skip


def write_frames(workdir: Path) -> None:
    """A few test frames as image files, and frames.jsonl with what is known of each before it is seen."""
    from vlm_jax.config.load import read
    from vlm_jax.data.run_data import RunData

    records = RunData.open(read(workdir / "config.json")).records("test")
    chosen = [i for i in range(len(records)) if records.record(i).report_sentence]
    chosen = chosen[:: max(1, len(chosen) // N_FRAMES)][:N_FRAMES] or list(range(min(N_FRAMES, len(records))))
    (workdir / "frames").mkdir(exist_ok=True)
    rows = []
    for number, i in enumerate(chosen):
        record, image = records.record(i), f"frames/{number}.jpg"
        (workdir / image).write_bytes(record.image or b"")
        known = {"keyword": record.keyword, "context": record.context, "previous": record.previous}
        rows.append({"image": image, **{key: value for key, value in known.items() if value}})
    (workdir / "frames.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def summary(workdir: Path) -> str:
    """Scores beside the trivial ones, what was predicted, and where all of it is."""
    from vlm_jax.evaluation.summary import summary_table

    out, predictions = workdir / "eval" / "test", workdir / "predictions.jsonl"
    table = summary_table(json.loads((out / "metrics.json").read_text()), "fess")
    lines = ["", table, "", f"predicted ({predictions})"]
    for line in predictions.read_text().splitlines():
        lines += _sentences(json.loads(line))
    return "\n".join([*lines, "", f"report   {out / 'report.html'}", f"figures  {out / 'metrics.json'}"])


def _sentences(prediction: Mapping[str, Any]) -> list[str]:
    present = [label["name"] for label in prediction.get("landmarks") or [] if label["present"]]
    lines = [f"  {Path(prediction['input']).name}: {', '.join(present) or 'no landmark above its threshold'}"]
    for task in ("describe", "anticipate", "report"):
        if prediction.get(task):
            lines.append(f"    {task}: {prediction[task]['text']}")
    return lines
