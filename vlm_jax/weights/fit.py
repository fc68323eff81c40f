"""Fitting a part's arrays to a run: stacked or unrolled layers, positions for its image size, rows for its tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlm_jax.errors import UserError
from vlm_jax.weights.interpolate import resize_positions

POSITIONS, WORDS = "position_embedding", "word_embedding"
LEAST_SHARED = 0.1
"""Share of the run's tokens that the source must know: below, it is the vocabulary of something else."""
_SHOWN = 8


@dataclass(frozen=True)
class Value:
    """What a parameter becomes; `known`, bool, broadcast against it, says what of it is known where not all is."""

    array: np.ndarray
    known: np.ndarray | None = None


def fit_part(
    part: str,
    arrays: Mapping[str, np.ndarray],
    source_tokens: Sequence[str] | None,
    target: Mapping[str, Any],
    tokens: Sequence[str],
    where: str,
) -> tuple[dict[str, Value], list[str]]:
    """A value for every parameter of `target`, and remarks for the person.

    Args:
      part: the part's name.
      arrays: of the source, names below the part.
      source_tokens: token of each of its vocabulary rows, or None.
      target: arrays or abstract arrays of the run, names below the part.
      tokens: of the run's tokenizer.
      where: `setting: directory`, for messages.

    Raises:
      UserError: names every parameter that is missing, too much, or of another shape, or says why the vocabulary or the
        positions cannot be fitted.
    """
    arrays = _as_stacked(arrays, target)
    values: dict[str, Value] = {}
    remarks: list[str] = []
    problems = [f"{part}/{name} is not in it" for name in sorted(target.keys() - arrays.keys())]
    problems += [f"{part}/{name} is in it, but not in this model" for name in sorted(arrays.keys() - target.keys())]
    for name in sorted(target.keys() & arrays.keys()):
        array, shape = arrays[name], tuple(target[name].shape)
        if name == WORDS and array.shape[1:] == shape[1:]:
            values[name], remark = match_rows(array, source_tokens, shape[0], tokens, where)
            remarks.append(remark)
        elif name == POSITIONS and array.shape != shape and array.shape[1:] == shape[1:]:
            values[name], remark = _positions(part, array, shape[0], where)
            remarks.append(remark)
        elif array.shape != shape:
            problems.append(f"{part}/{name} is {list(array.shape)} in it and {list(shape)} in this model")
        else:
            values[name] = Value(array)
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise UserError(f"{where} does not fit: {'; '.join(problems[:_SHOWN])}{more}. Set model.{part}.* to its sizes")
    return values, remarks


def match_rows(
    table: np.ndarray, source_tokens: Sequence[str] | None, n_rows: int, tokens: Sequence[str], where: str
) -> tuple[Value, str]:
    """Rows of a word embedding [V, D], or of a bias [V], in the order of the run's tokens: found by the token's text.

    Returns:
      The [n_rows, D] table (or bias) with the rows that are known, and a remark with the number of new ones.

    Raises:
      UserError: the source has no tokenizer, or fewer than a tenth of the tokens are known to it.
    """
    if source_tokens is None:
        raise UserError(
            f"{where} has {table.shape[0]} vocabulary rows, but no tokenizer that tells which token each is for: "
            "import it again with --vocabulary"
        )
    ids = {token: i for i, token in reversed(list(enumerate(source_tokens[: table.shape[0]]))) if token}
    found = np.array([ids.get(token, -1) for token in tokens])
    known = found >= 0
    if known.mean() < LEAST_SHARED:
        key, _, directory = where.partition(": ")
        imported = f"set --config.data.tokenizer={directory}/tokenizer.json, or choose other weights"
        do = "leave data.tokenizer out, and its words are taken" if key == "train.start_from" else imported
        raise UserError(
            f"{where} knows {known.sum()} of this run's {len(tokens)} tokens: it has the vocabulary of something else; "
            f"{do}"
        )
    rows = np.zeros(n_rows, bool)
    rows[: len(tokens)] = known
    array = np.zeros((n_rows, *table.shape[1:]), np.float32)
    array[np.flatnonzero(known)] = table[found[known]]
    remark = f"{(~known).sum()} of {len(tokens)} vocabulary rows are new"
    return Value(array, None if rows.all() else rows.reshape(-1, *(1 for _ in table.shape[1:]))), remark


def _positions(part: str, table: np.ndarray, rows: int, where: str) -> tuple[Value, str]:
    """Positions of images are interpolated; those of texts may only be cut."""
    if part == "image_encoder":
        grid = math.isqrt(rows - 1)
        try:
            value = Value(resize_positions(table, grid))
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        return value, f"positions interpolated from {table.shape[0]} to {rows} (image size)"
    if table.shape[0] < rows:
        raise UserError(f"{where} has {table.shape[0]} positions: set --config.model.{part}.positions={table.shape[0]}")
    return Value(table[:rows]), f"the first {rows} of {table.shape[0]} positions"


def _as_stacked(arrays: Mapping[str, np.ndarray], target: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The source's layers in the form of the target: `blocks/layer_3/...` each, or `blocks/layers/...` stacked."""
    stacked = any("blocks/layers/" in name for name in target)
    if stacked == any("blocks/layers/" in name for name in arrays):
        return dict(arrays)
    result = {name: array for name, array in arrays.items() if not name.startswith("blocks/")}
    if not stacked:
        for name, array in arrays.items():
            if name.startswith("blocks/layers/"):
                result |= {name.replace("/layers/", f"/layer_{i}/", 1): row for i, row in enumerate(array)}
        return result
    layers: dict[str, dict[int, np.ndarray]] = {}
    for name, array in arrays.items():
        if match := re.fullmatch(r"blocks/layer_(\d+)/(.+)", name):
            layers.setdefault(match[2], {})[int(match[1])] = array
    return result | {
        f"blocks/layers/{rest}": np.stack([rows[i] for i in sorted(rows)]) for rest, rows in layers.items()
    }
