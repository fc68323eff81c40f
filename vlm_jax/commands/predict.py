"""`vlm-jax predict`."""

from __future__ import annotations

import argparse
import sys

from vlm_jax.config.answering import ANSWERING

HELP = """Predict landmarks and texts for images, folders and JSON lines.

One JSON object an image goes to --out (all of them or none), or to stdout. The checkpoint brings
tokenizer, label names and thresholds.

example:
  vlm-jax predict --checkpoint runs/demo frames/ --keyword "septal deviation" --out predictions.jsonl
  vlm-jax predict --checkpoint runs/demo frames/ --config.eval.decode=beam --out beams.jsonl
"""

SETTINGS = ANSWERING
TEXT_FLAGS = {
    "keyword": "step code of the next report sentence, where an input gives none",
    "context": "the most recent report sentence(s); [START] = the report starts here",
    "previous": "description of the previous activity; [START] = the procedure starts here",
    "current": "description of the current activity, for what comes next",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument(
        "--checkpoint", required=True, metavar="DIR", help="work directory, one step's directory, or an export"
    )
    of = "{image, before, keyword, context, previous, current}"
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=f"image, folder, or .jsonl of {of}")
    for name, text in TEXT_FLAGS.items():
        parser.add_argument(f"--{name}", metavar="TEXT", help=text)
    parser.add_argument("--step", default="best", metavar="N|best|last", help="which checkpoint (default: best)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: as the run was configured")
    parser.add_argument("--batch_size", type=int, metavar="N", help="rows of every batch; default: fits the input")
    parser.add_argument("--out", metavar="FILE.jsonl", help="default: stdout")
    parser.add_argument("--skip_bad", action="store_true", help="leave out images that cannot be read; list them last")


def run(args: argparse.Namespace) -> int:
    """Exit code 0; 2 for a bad input (nothing is written then), 1 for a full disk."""
    from vlm_jax.checkpoint.work_directory import work_directory
    from vlm_jax.errors import UserError
    from vlm_jax.inference.inputs import collect
    from vlm_jax.inference.load import load
    from vlm_jax.inference.notices import notices
    from vlm_jax.inference.output import json_lines, track
    from vlm_jax.inference.request import TEXTS

    checkpoint = str(work_directory(args.checkpoint, "--checkpoint"))
    if args.out is not None and "://" in args.out:
        raise UserError(f"--out '{args.out}' is remote: predictions are written to a local file; copy it afterwards")
    requests = collect(args.inputs, {name: getattr(args, name) for name in TEXTS})
    predictor = load(checkpoint, args.step, args.dtype, args.batch_size, args.overrides)
    for line in notices(predictor.system, requests):
        print(line, file=sys.stderr)
    bad: list[str] = []
    on_bad = (lambda _, error: bad.append(str(error))) if args.skip_bad else None
    written = 0
    with json_lines(args.out) as write:
        for prediction in track(predictor.stream(requests, on_bad), len(requests), "predict"):
            write(prediction.to_json())
            written += 1
        if not written:
            raise UserError(f"none of the {len(bad)} images can be read; the first: {bad[0]}")
    for line in bad:
        print(f"skipped: {line}", file=sys.stderr)
    if args.out:
        print(f"wrote {written} predictions to {args.out}", file=sys.stderr)
    return 0
