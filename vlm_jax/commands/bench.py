"""`vlm-jax bench`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HELP = """Measure how fast this machine runs a configuration, beside other implementations if asked to.

WHAT is one of
  train    the training step, also fed from files with --config.data.path=DIR; with --forward the forward pass alone
  decode   texts from images, greedy and with --beams
  predict  one frame in, labels and texts out, host to host
  data     images from bytes to pixels; whole batches with --config.data.path=DIR
  start    from the start of a process to its first step, cold and warm, and how long a save holds up the steps
Data are random. Each figure is the median of --steps timings after a warm-up, with its quartiles. A peer (--peer, any
number of them; of train, decode and data) runs in the same process, turn by turn with ours, after its outputs were
found to be the same.

example:
  vlm-jax bench train --config configs/vlm.py:tiny_vit --peer benchmarks/peers/torch_vlm.py:eager --out tiny.json
"""

JOBS = ("train", "decode", "predict", "data", "start")
OF = {"--peer": ("train", "decode", "data"), "--forward": ("train",), "--beams": ("decode",), "--warmup": JOBS[:-1]}
"""Which jobs look at a flag."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("what", choices=JOBS, metavar="WHAT", help=", ".join(JOBS))
    parser.add_argument("--config", required=True, metavar="FILE:ARG", help="e.g. configs/vlm.py:light")
    parser.add_argument("--steps", type=int, metavar="N", help="timings of each case; default: 50, of start 3")
    parser.add_argument("--warmup", type=int, metavar="N", help="calls before the first timing; default: 3")
    parser.add_argument("--peer", action="append", default=[], metavar="FILE.py:VARIANT", help="another implementation")
    parser.add_argument("--forward", action="store_true", help="of train: the forward pass alone")
    parser.add_argument("--beams", default="", metavar="N[,N]", help="of decode: widths of beam search, e.g. 4")
    parser.add_argument("--out", metavar="FILE", help="also write the result as JSON")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the result; exit code 0."""
    from vlm_jax.bench import data, decode, predict, results, start, train
    from vlm_jax.config.load import load_config
    from vlm_jax.errors import UserError

    _refuse_what_means_nothing(args)
    steps = (3 if args.what == "start" else 50) if args.steps is None else args.steps
    warmup = 3 if args.warmup is None else args.warmup
    if steps < 1 or warmup < 0:
        raise UserError(f"--steps {steps} --warmup {warmup}: expected at least 1 and 0")
    config = load_config(args.config, args.overrides)
    if args.out and (Path(args.out).is_dir() or not Path(args.out).name):
        raise UserError(f"--out {args.out} is a folder: give a file, as in --out {Path(args.out) / 'bench.json'}")
    timed = {"rounds": steps, "warmup": warmup}
    if args.what == "train":
        found = train.measure(config, steps=steps, warmup=warmup, peers=args.peer, forward=args.forward)
    elif args.what == "decode":
        found = decode.measure(config, **timed, peers=args.peer, beams=_widths(args.beams))
    elif args.what == "data":
        found = data.measure(config, **timed, peers=args.peer)
    elif args.what == "predict":
        found = predict.measure(config, **timed)
    else:
        found = start.measure(config, rounds=steps)
    if args.out:
        results.write(found, Path(args.out))
        print(f"wrote {args.out}", file=sys.stderr)
    print(json.dumps(found, default=float) if args.json else "\n".join(results.lines(found)))
    return 0


def _refuse_what_means_nothing(args: argparse.Namespace) -> None:
    """UserError for a flag that WHAT does not look at."""
    from vlm_jax.errors import UserError

    given = {"--peer": args.peer, "--forward": args.forward, "--beams": args.beams, "--warmup": args.warmup is not None}
    for flag, is_given in given.items():
        if is_given and args.what not in OF[flag]:
            raise UserError(f"{flag} means nothing to `vlm-jax bench {args.what}`: it is of {', '.join(OF[flag])}")


def _widths(text: str) -> tuple[int, ...]:
    from vlm_jax.errors import UserError

    try:
        widths = tuple(int(word) for word in text.split(",") if word)
    except ValueError:
        widths = (0,)
    if any(width < 2 for width in widths):
        raise UserError(f"--beams {text}: expected widths of at least 2, as 4 or 2,4")
    return widths
