"""A trained system as files for everybody: DIR/{model.safetensors, config.json, tokenizer.json, tokenizer_config.json}.

`vlm_jax.load` and the commands run it, Hugging Face's tokenizers read its vocabulary, and the same checkpoint gives the
same bytes. MANIFEST.json, written last, holds the sha256 of each file.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from vlm_jax.checkpoint import manifest
from vlm_jax.checkpoint.compare import require_same
from vlm_jax.checkpoint.meta import Meta
from vlm_jax.checkpoint.store import Restored
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params
from vlm_jax.weights.readers import read_weights
from vlm_jax.weights.safetensors_file import dump_safetensors
from vlm_jax.weights.store import require_new
from vlm_jax.weights.tree import flatten, nest

_FAMILY = "vlm_jax.export/"
FORMAT = _FAMILY + "1"
PARAMS, ABOUT, TOKENIZER, TOKENIZER_ABOUT = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
FILES = (PARAMS, ABOUT, TOKENIZER, TOKENIZER_ABOUT)

_ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "eos": "[EOS]"}


def write_export(params: Mapping[str, Any], meta: Meta, step: int, out: str | os.PathLike[str]) -> Path:
    """Writes an export; `out` appears whole or not at all.

    Args:
      params: nested dict of arrays, as `models.init_params` makes it.
      meta: of the checkpoint; its place in the data (batches, quarantine) stays behind.
      step: number of the checkpoint, for the record.

    Raises:
      UserError: `out` is there already, or the parameters are not those of the system in `meta`.
      OSError: it cannot be written.
    """
    require_new(out)
    target = Path(out)
    check_params(params, meta, f"of step {step}")
    texts = {
        ABOUT: _about(meta, step),
        TOKENIZER: meta.tokenizer,
        TOKENIZER_ABOUT: _tokenizer_about(meta),
    }
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        temporary.mkdir(parents=True)
        with open(temporary / PARAMS, "wb") as file:
            for piece in dump_safetensors(flatten(params), {"format": FORMAT}):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8")
        manifest.write(epath.Path(temporary))
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def is_export(path: str | os.PathLike[str]) -> bool:
    """Whether an export of ours lies there, whole or damaged; a Hugging Face model's directory is none."""
    folder = epath.Path(path)
    if not (folder / PARAMS).exists():
        return False
    try:
        return manifest.exists(folder) or json.loads((folder / ABOUT).read_text())["format"].startswith(_FAMILY)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def read_export(path: str | os.PathLike[str], step: int | str = "best") -> Restored:
    """Reads an export as `checkpoint.store.restore_for_inference` reads a checkpoint.

    Args:
      path: a local directory.
      step: best, last or the number of the step that was exported.

    Raises:
      UserError: remote, changed since it was written, of another version, or another step is asked for.
    """
    if "://" in os.fspath(path):
        raise UserError(f"'{path}' is remote: an export is read from a local disk; copy it first")
    folder = Path(path)
    if found := problems(folder):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UserError(f"the export '{folder}' is damaged: {found[0]}{more}; copy or export it again")
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    if about["format"] != FORMAT:
        raise UserError(f"the export '{folder}' is of format {about['format']!r}; this version reads {FORMAT!r}")
    own = about["step"]
    if str(step) not in ("best", "last", str(own)):
        raise UserError(f"'{folder}' is the export of step {own}, not {step}: leave out --step")
    tokenizer = (folder / TOKENIZER).read_text(encoding="utf-8")
    meta = Meta.from_json({**about, "tokenizer": tokenizer, "batches": own, "quarantine": []})
    params = nest({name: np.asarray(array) for name, array in read_weights(folder / PARAMS).arrays.items()})
    check_params(params, meta, f"of '{folder}'")
    return Restored(params, meta, int(own), epath.Path(folder))


def problems(folder: Path) -> list[str]:
    """One line for each file of the export that is missing or changed. Files that were added do not count."""
    lines = [line for line in manifest.problems(epath.Path(folder)) if not line.endswith(f"is not in {manifest.NAME}")]
    return lines or [f"{name} is missing" for name in FILES if not (folder / name).is_file()]


def check_params(params: Mapping[str, Any], meta: Meta, where: str) -> None:
    """UserError naming every parameter that is missing, too much, or of another shape than the system's."""
    model = build_model(meta.config, len(meta.labels), n_tokens(meta.tokenizer))
    expected = jax.eval_shape(lambda: init_params(model, meta.config, jax.random.key(0)))
    require_same(dict(params), expected, item="params", where=where)


def n_tokens(tokenizer: str) -> int:
    """Size of the vocabulary of a tokenizer.json, added tokens included: its highest id and one."""
    try:
        values = json.loads(tokenizer)
        added = [token["id"] for token in values.get("added_tokens", ())]
        return 1 + max([*values["model"]["vocab"].values(), *added])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the tokenizer is no tokenizer.json with a vocabulary ({error})") from None


def _about(meta: Meta, step: int) -> str:
    values = dataclasses.replace(meta, batches=step, quarantine=(), set_aside={}, rollbacks=0).to_json()
    kept = {key: value for key, value in values.items() if key not in ("tokenizer", "batches", "quarantine")}
    first = {"format": FORMAT, "system": meta.config.system, "step": step, "n_tokens": n_tokens(meta.tokenizer)}
    return json.dumps({**first, **kept}, indent=1, ensure_ascii=False) + "\n"


def _tokenizer_about(meta: Meta) -> str:
    """What Hugging Face's AutoTokenizer goes by. Its texts are split like ours: `[SEP]` typed in a note is text."""
    values = json.loads(meta.tokenizer)
    known = {*values["model"]["vocab"], *(token["content"] for token in values.get("added_tokens", ()))}
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": meta.config.data.prompt_length,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
        **{f"{role}_token": token for role, token in _ROLES.items() if token in known},
    }
    return json.dumps(about, indent=1, sort_keys=True) + "\n"
