"""`vlm-jax weights export`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = """Write a trained system as safetensors, config.json and tokenizer files that others read, too.

The averaged weights where there are any. The same checkpoint gives the same bytes. `vlm_jax.load`, evaluate and predict
take the directory as --checkpoint; Hugging Face's AutoTokenizer reads its tokenizer, examples/pytorch_reader.py its
model.

example:
  vlm-jax weights export --checkpoint runs/demo --out exports/demo
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("--checkpoint", required=True, metavar="DIR",
                        help="a work directory, one step's directory, or an export")  # fmt: skip
    parser.add_argument("--step", default="best", metavar="N|best|last", help="which checkpoint (default: best)")
    parser.add_argument("--out", required=True, metavar="DIR", help="new directory of the export")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when all is written."""
    from vlm_jax.checkpoint.store import restore_for_inference
    from vlm_jax.checkpoint.work_directory import work_directory
    from vlm_jax.weights.export import is_export, read_export, write_export
    from vlm_jax.weights.store import require_new

    where = str(work_directory(args.checkpoint, "--checkpoint"))
    out = Path(work_directory(args.out, "--out", local=True))
    require_new(out)
    restored = read_export(where, args.step) if is_export(where) else restore_for_inference(where, args.step)
    write_export(restored.params, restored.meta, restored.step, out)
    print(f"step {restored.step} of system {restored.meta.config.system} in {out}")
    return 0
