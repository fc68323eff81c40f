"""`verify`: whether files of weights are whole, complete and finite, whatever made them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlm_jax.checkpoint.compare import require_same
from vlm_jax.errors import UserError
from vlm_jax.weights.export import is_export, read_export
from vlm_jax.weights.layouts import LAYOUTS
from vlm_jax.weights.readers import read_weights
from vlm_jax.weights.store import is_imported, read_imported
from vlm_jax.weights.tree import flatten

_SHOWN = 8


@dataclass(frozen=True)
class Report:
    """What was found in order.

    Attributes:
      kind: export, imported weights or weights file.
      about: in words, what it is of.
      n_arrays: arrays. n_values: their elements.
      left_out: (key, why) of what its source held besides.
    """

    kind: str
    about: str
    n_arrays: int
    n_values: int
    left_out: tuple[tuple[str, str], ...] = ()


def verify(path: str | os.PathLike[str]) -> Report:
    """Checks an export, an imported model, or any file that `read_weights` reads.

    Of our own: every file by its sha256, every parameter's name and shape by the model it is for. Of all: every value
    is finite.

    Raises:
      UserError: the first thing that is not in order.
    """
    if is_export(path):
        restored = read_export(path)
        arrays, kind = flatten(restored.params), "export"
        about, left_out = f"system {restored.meta.config.system}, step {restored.step}", ()
    elif is_imported(path):
        imported = read_imported(path)
        if imported.layout not in LAYOUTS:
            raise UserError(f"'{path}' is of layout {imported.layout!r}, which this version does not know")
        expected = {imported.part: LAYOUTS[imported.layout].abstract(imported.config)}
        require_same(imported.params, expected, item="params", where=f"of '{path}'")
        arrays, kind = flatten(imported.params), "imported weights"
        about, left_out = f"{imported.part} from layout {imported.layout}", imported.dropped
    else:
        found = read_weights(Path(path))
        arrays, kind, about, left_out = found.arrays, "weights file", f"sha256 {found.sha256}", found.skipped
    _require_finite(arrays, path)
    return Report(kind, about, len(arrays), sum(array.size for array in arrays.values()), tuple(left_out))


def _require_finite(arrays: Mapping[str, np.ndarray], path: str | os.PathLike[str]) -> None:
    bad = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if bad:
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise UserError(f"'{path}' holds values that are not finite in {', '.join(bad[:_SHOWN])}{more}: get it again")
