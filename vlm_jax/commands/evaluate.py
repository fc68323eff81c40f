"""`vlm-jax evaluate`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_jax.config.answering import ANSWERING
from vlm_jax.config.rules import LISTS

if TYPE_CHECKING:
    from etils import epath

HELP = """Score a trained model on a split, every score beside the trivial ones.

Writes WORKDIR/eval/SPLIT/{metrics.json, predictions.jsonl, report.html}, over those of an earlier evaluation of that
split: with other --data, --step, --contexts or settings give --out, too, to keep both.

Data of another site, all of them (--split all), are scored beside what the run's own training data teach the trivial
systems.

Of a model with places (model.region_width) where landmarks are is scored, too, on frames that have masks.

example:
  vlm-jax evaluate --workdir runs/tiny --split test
  vlm-jax evaluate --checkpoint runs/tiny --data data/other_site --split all --out runs/other_site
"""

SETTINGS = ANSWERING
_SPLITS = ("train", "validation", "test", "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workdir", metavar="DIR", help="the work directory of a training run")
    where.add_argument("--checkpoint", metavar="DIR", help="a work directory, one step's directory, or an export")
    parser.add_argument("--step", default="best", metavar="N|best|last", help="which checkpoint (default: best)")
    parser.add_argument("--data", metavar="DIR[,DIR]", help="other data sets than those of the training run")
    parser.add_argument("--split", default="test", choices=_SPLITS, help="all: every record of --data (default: test)")
    parser.add_argument(
        "--contexts", metavar="NAME[,NAME]", help=f"of {', '.join(LISTS['eval.contexts'])} (default: as configured)"
    )
    parser.add_argument("--out", metavar="DIR", help="where the results go (default: DIR/eval/SPLIT)")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when all is written."""
    from vlm_jax.checkpoint.work_directory import work_directory
    from vlm_jax.decoding.system import System
    from vlm_jax.errors import UserError
    from vlm_jax.evaluation.apart import check_apart, namesakes
    from vlm_jax.evaluation.run import evaluate
    from vlm_jax.evaluation.table import table

    whole = args.split == "all"
    if whole and not args.data:
        raise UserError("--split all would score what the model was trained on: name other data with --data DIR")
    flag = "--checkpoint" if args.workdir is None else "--workdir"
    where = work_directory(args.checkpoint if args.workdir is None else args.workdir, flag)
    out = _out(where, args)
    system = System.from_checkpoint(str(where), args.step, settings=args.overrides)
    data = _data(system, args.data, whole)
    reference = _reference(system, data) if whole else data
    check_apart(data, args.split, system.meta)
    data.notices += namesakes(data, args.split, system.meta)
    for notice in data.notices:
        print(notice, file=sys.stderr)
    contexts = args.contexts.split(",") if args.contexts else None
    metrics = evaluate(system, data, args.split, out, contexts=contexts, reference=reference)
    print(json.dumps(metrics, indent=1) if args.json else table(metrics))
    print(f"results in {out}", file=sys.stderr)
    return 0


def _data(system: Any, paths: str | None, whole: bool) -> Any:
    """The data of the training run, or other data sets: under the same rules, or whole."""
    from vlm_jax.data.run_data import RunData
    from vlm_jax.errors import UserError

    config, known = system.config, system.meta.get("sources", {})
    if not paths:
        return RunData.open(config, system.tokenizer, system.labels, whole=whole)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=tuple(paths.split(","))))
    try:
        return RunData.open(config, system.tokenizer, system.labels, whole=whole, trained_on=known)
    except UserError as error:
        if str(error).startswith("data.split"):  # its advice is for training: here the checkpoint's rule stands
            what = str(error).partition(": take")[0]
            raise UserError(f"by the run's own rule {what}: to score other data whole, use --split all") from error
        raise


def _reference(system: Any, data: Any) -> Any:
    """The data of the training run, beside others that are scored whole; where they are gone, a notice says so."""
    from vlm_jax.errors import UserError

    try:
        return _data(system, None, False)
    except UserError as error:
        data.notices.append(
            "no trivial text scores, prior or tf-idf, nor a constant answer to places, for the run's training data "
            "could not be opened "
            f"({str(error).partition(';')[0]}): bring them back to have these"
        )
        return data


def _out(where: epath.Path, args: argparse.Namespace) -> Path:
    """Where the results go: beside the checkpoints, or to --out. They are written to a local disk."""
    from vlm_jax.checkpoint.work_directory import work_directory
    from vlm_jax.errors import UserError

    if args.out is not None:
        return Path(work_directory(args.out, "--out", local=True))
    out = _base(where) / "eval" / args.split
    if "://" in str(out):
        raise UserError(f"results are written to a local disk, not to {out}: give --out DIR")
    return Path(work_directory(str(out), "the results' directory", local=True))


def _base(where: epath.Path) -> epath.Path:
    """The work directory of what was named: a step's directory lies in WORKDIR/checkpoints/."""
    for folder in (where, where.parent):
        if folder.name == "checkpoints":
            return folder.parent
    return where
