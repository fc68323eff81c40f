"""`vlm-jax demo`."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

HELP = """Simulate, train, evaluate and predict on this machine, in minutes.

Prints each command before it runs it, so that each can be run alone. After a failure the same command goes on.

example:
  vlm-jax demo --workdir runs/demo
"""

# Frames cost most on a slow machine; places make up for fewer of them (docs/results/demo.md).
SIMULATE = "--activities_per_procedure 24 --frames_per_procedure 64 --image_size 64 --seed 0"
CONFIG = "configs/vlm.py:tiny,places"
SPLIT = "kfold:3:0"  # of 24 procedures 12 to train on, 4 to choose thresholds on, 8 to test on
# As many words and tokens as these data have, and fewer, longer steps: chosen on the four validation procedures
# (docs/results/demo.md).
FITTED = {
    "data.vocab_size": "768",
    "data.prompt_length": "36",
    "data.target_length": "36",
    "optim.lr": "2e-3",
    "train.steps": "400",
}
N_FRAMES = 3
PROCEDURES = "24"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("--config", default=CONFIG, metavar="FILE:ARG", help=f"default: {CONFIG}")
    parser.add_argument("--workdir", default="runs/demo", metavar="DIR", help="default: runs/demo")
    parser.add_argument("--procedures", default=PROCEDURES, metavar="N", help=f"simulated; default: {PROCEDURES}")


def run(args: argparse.Namespace) -> int:
    """Every stage in turn, each by `args.run_command(argv)`; one that fails names itself, and a second run goes on."""
    from vlm_jax.checkpoint.work_directory import work_directory

    workdir = Path(work_directory(args.workdir, local=True))
    for name, argv in stages(args, workdir):
        if name == "predict":
            from vlm_jax.inference.examples import write_examples

            write_examples(workdir, N_FRAMES)
        print(f"\n$ vlm-jax {shlex.join(argv)}", file=sys.stderr, flush=True)
        code: int | None = None
        try:
            code = args.run_command(argv)
        finally:
            if code != 0:
                again = f"`{_same_again(args, workdir)}` goes on from it"
                print(f"demo: the stage {name!r} stopped; {again}", file=sys.stderr)
        if code:
            return code
    print(summary(workdir))
    if "eval.contexts" not in dict(args.overrides):
        again = shlex.join(["vlm-jax", "evaluate", "--workdir", str(workdir), "--split", "test"])
        print(f"more     `{again}`: with its own sentences as contexts, and with none")
    return 0


def _same_again(args: argparse.Namespace, workdir: Path) -> str:
    """The command with what was given."""
    words = ["vlm-jax", "demo", "--workdir", str(workdir)]
    words += ["--config", args.config] if args.config != CONFIG else []
    words += ["--procedures", args.procedures] if args.procedures != PROCEDURES else []
    return shlex.join(words + [f"--config.{key}={value}" for key, value in dict(args.overrides).items()])


def stages(args: argparse.Namespace, workdir: Path) -> list[tuple[str, list[str]]]:
    """The command lines, in order."""
    from vlm_jax.config.load import load_config

    place, data = str(workdir), str(workdir / "data")
    fitted = FITTED if args.config == CONFIG else {}
    settings = {"data.path": data, "data.split": SPLIT, **fitted, **dict(args.overrides)}
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    # Rolling out its own sentences takes half a minute and more: `run` says how.
    contexts = [] if "eval.contexts" in settings else ["--contexts", "gold"]
    inputs, out = str(workdir / "frames.jsonl"), str(workdir / "predictions.jsonl")
    # As many rows as the evaluation had at once: its compiled program serves again.
    rows = str(load_config(args.config, settings).eval.batch_size)
    return [
        ("simulate", ["data", "simulate", "--out", data, "--procedures", args.procedures, *SIMULATE.split()]),
        ("train", ["train", "--config", args.config, "--workdir", place, *overrides]),
        ("evaluate", ["evaluate", "--workdir", place, "--split", "test", *contexts]),
        ("predict", ["predict", "--checkpoint", place, inputs, "--batch_size", rows, "--out", out]),
    ]


def summary(workdir: Path) -> str:
    """What was predicted, and where all of it is; the scores were printed by the evaluate stage."""
    from vlm_jax.inference.examples import read_predictions

    out, predictions = workdir / "eval" / "test", workdir / "predictions.jsonl"
    lines = ["", f"predicted, on simulated frames ({predictions})", read_predictions(predictions), ""]
    return "\n".join([*lines, f"report   {out / 'report.html'}", f"figures  {out / 'metrics.json'}"])
