"""`vlm-jax weights import`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlm_jax.commands.reasons import print_by_reason

HELP = """Turn published weights into ours: all of the source, all of the target, or nothing.

Reads safetensors (also sharded), .npz and files of torch.save, by their content; nothing in them is executed. What is
not needed is listed with the reason.

layouts (docs/weights.md says whose):
  image_encoder: timm_vit, mae_vit, endovit, hf_vit, hf_deit
  text_encoder: bert, pubmedbert, minilm, distilbert
  backbone: torchvision_resnet, hf_resnet, efficientnet_lite0, swin, timm_swin, hf_swin
  gpt: gpt2
  everything: vlm_jax, an export of this program

example:
  vlm-jax weights import --layout endovit --input endovit.pth --out weights/endovit
"""

OURS = "vlm_jax"
"""The layout of our own exports: a whole system, not a part of one."""

_WITH_WORDS = ("text_encoder", "gpt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("--layout", required=True, metavar="NAME", help="whose names and shapes: one of those above")
    parser.add_argument("--input", required=True, metavar="PATH", help="the file, or a directory that holds it")
    parser.add_argument("--out", required=True, metavar="DIR", help="new directory, for --config.model.PART.init=DIR")
    beside = "(default: as a config.json beside the input says"
    parser.add_argument("--heads", type=int, metavar="N",
                        help=f"attention heads {beside}, or the layout's usual number)")  # fmt: skip
    parser.add_argument("--layers", type=int, metavar="N",
                        help=f"layers that it must have, to notice a missing last one {beside})")  # fmt: skip
    parser.add_argument("--image_size", type=int, metavar="PIXELS", help="interpolate position embeddings to this size")
    parser.add_argument("--vocabulary", metavar="FILE",
                        help="tokenizer.json or vocab.txt of the words (default: that beside the input)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when all is written; 2, and nothing is, where anything does not fit."""
    from vlm_jax.checkpoint.work_directory import work_directory
    from vlm_jax.errors import UserError
    from vlm_jax.weights.hugging_face import normalisation_beside, said_beside
    from vlm_jax.weights.importer import import_weights
    from vlm_jax.weights.init import PARTS
    from vlm_jax.weights.readers import read_weights
    from vlm_jax.weights.store import require_new, write_imported

    for flag in ("heads", "layers", "image_size"):
        if (given := getattr(args, flag)) is not None and given < 1:
            raise UserError(f"--{flag} {given}: expected 1 or more")
    out = Path(work_directory(args.out, "--out", local=True))
    require_new(out)
    if args.layout == OURS:
        return _import_export(args, out)
    found = read_weights(args.input)
    said = said_beside(args.input, args.layout)
    layers = args.layers or said.get("layers")
    imported = import_weights(
        args.layout,
        found.arrays,
        heads=args.heads or said.get("heads"),
        layers=layers,
        image_size=args.image_size,
        vocabulary=_vocabulary(args),
        skipped=found.skipped,
        source_sha256=found.sha256,
    )
    if "mean" in imported.config:
        imported.config.update(normalisation_beside(args.input))
    if layers is None:
        _refuse_odd(imported.config.get("layers", 1))
    write_imported(imported, out)
    print_by_reason("dropped", imported.dropped, f"{out}/weights.json lists all")
    count = len(found.arrays)
    use = f"; use --config.model.{imported.part}.init={out}" if imported.part in PARTS else ""
    print(f"{count} arrays of layout {args.layout} in {out}{use}")
    return 0


def _refuse_odd(layers: int) -> None:
    """UserError for 3, 5, 7, ... layers: where nobody says how many there are, that is how a missing last one shows."""
    from vlm_jax.errors import UserError

    if layers > 1 and layers % 2:
        raise UserError(
            f"layers is {layers} in this file, an odd number, which hardly any published model has: its last one seems "
            f"to be missing; if it is not, say --layers {layers}"
        )


def _import_export(args: argparse.Namespace, out: Path) -> int:
    """An export of ours, checked whole, as the same export elsewhere: the same bytes."""
    from vlm_jax.errors import UserError
    from vlm_jax.weights.export import is_export, read_export, write_export

    given = Path(args.input)
    folder = given.parent if given.is_file() else given
    if not is_export(folder):
        raise UserError(f"--input '{given}' is no export: layout {OURS} takes what `vlm-jax weights export` wrote")
    restored = read_export(folder)
    write_export(restored.params, restored.meta, restored.step, out)
    print(f"step {restored.step} of system {restored.meta.config.system} in {out}; use --checkpoint {out}")
    return 0


def _vocabulary(args: argparse.Namespace) -> str | None:
    """Text of the tokenizer.json that belongs to the words; None where the layout has no words, or there is none."""
    from vlm_jax.weights import vocabulary
    from vlm_jax.weights.layouts import LAYOUTS

    if args.vocabulary is not None:
        return vocabulary.read(args.vocabulary)
    given, layout = Path(args.input), LAYOUTS.get(args.layout)
    folder = given if given.is_dir() else given.parent
    if layout is None or layout.part not in _WITH_WORDS or not vocabulary.files_in(folder):
        return None
    return vocabulary.read(folder)
