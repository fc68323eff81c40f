"""An imported model on disk: DIR/{params.safetensors, weights.json, tokenizer.json}; the same import, same bytes."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import numpy as np
import safetensors.numpy
from etils import epath

from vlm_jax.errors import EnvironmentFault, UserError
from vlm_jax.weights.importer import Imported
from vlm_jax.weights.tree import flatten, nest

FORMAT = "vlm_jax.weights/1"
PARAMS, ABOUT, TOKENIZER = "params.safetensors", "weights.json", "tokenizer.json"


def write_imported(imported: Imported, out: str | os.PathLike[str]) -> None:
    """Writes an imported model; `out` appears whole or not at all.

    Raises:
      UserError: `out` is there already.
      EnvironmentFault: it cannot be written.
    """
    require_new(out)
    out = epath.Path(out)
    flat = sorted(flatten(imported.params).items())
    params = safetensors.numpy.save({name: np.ascontiguousarray(value, np.float32) for name, value in flat})
    about = {
        "format": FORMAT,
        "layout": imported.layout,
        "part": imported.part,
        "config": imported.config,
        "source_sha256": imported.source_sha256,
        "params_sha256": hashlib.sha256(params).hexdigest(),
        "dropped": [list(row) for row in imported.dropped],
    }
    temporary = out.parent / f".{out.name}.{os.getpid()}.tmp"
    try:
        temporary.mkdir(parents=True)
        (temporary / PARAMS).write_bytes(params)
        if imported.tokenizer_json is not None:
            (temporary / TOKENIZER).write_text(imported.tokenizer_json)
        (temporary / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
        temporary.rename(out)
    except OSError as error:
        if temporary.exists():
            temporary.rmtree()
        raise EnvironmentFault(f"cannot write {out}: {error.strerror or error}") from error


def require_new(out: str | os.PathLike[str]) -> None:
    """UserError where a directory or file of this name is there already."""
    if epath.Path(out).exists():
        raise UserError(f"'{os.fspath(out)}' is there already: give another --out, or remove it")


def is_imported(path: str | os.PathLike[str]) -> bool:
    """Whether an imported model lies there."""
    return (epath.Path(path) / ABOUT).exists()


def read_imported(path: str | os.PathLike[str]) -> Imported:
    """Reads what `write_imported` wrote.

    Raises:
      UserError: it is not such a directory, or a file was damaged.
    """
    path = epath.Path(path)
    try:
        about: dict[str, Any] = json.loads((path / ABOUT).read_text())
        params = (path / PARAMS).read_bytes()
        tokenizer = (path / TOKENIZER).read_text() if (path / TOKENIZER).exists() else None
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']!r}, expected {FORMAT!r}")
        if hashlib.sha256(params).hexdigest() != about["params_sha256"]:
            raise ValueError(f"{PARAMS} is not the file that was written")
        dropped = tuple((str(key), str(why)) for key, why in about["dropped"])
        config = {k: tuple(v) if isinstance(v, list) else v for k, v in about["config"].items()}
        tree = nest(safetensors.numpy.load(params))
        return Imported(about["part"], about["layout"], tree, config, dropped, tokenizer, about["source_sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{path} holds no imported weights ({reason}): make it with `vlm-jax weights import --out {path}`"
        ) from None
