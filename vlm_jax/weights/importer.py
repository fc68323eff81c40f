"""The import engine: consumes every array of a source or says why not, fills every parameter, or fails with a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vlm_jax.config.values import suggest
from vlm_jax.errors import UserError
from vlm_jax.weights import interpolate
from vlm_jax.weights import vocabulary as vocabularies
from vlm_jax.weights.layouts import LAYOUTS
from vlm_jax.weights.rules import Arrays, Layout, Rule, example_key
from vlm_jax.weights.tree import flatten, nest

__all__ = ["Imported", "Layout", "Rule", "import_weights"]

_SHOWN = 20  # rows of a table of differences


@dataclass(frozen=True)
class Imported:
    """Weights in our names and shapes.

    Attributes:
      part: top name of `params`: image_encoder, text_encoder, backbone, gpt.
      layout: the name of the table they came by.
      params: nested dict {part: ...} of float32 arrays.
      config: fragment of the part's config section, with `image_size` or `vocab_size` beside.
      dropped: (source key, why) of what was not needed.
      tokenizer_json: the vocabulary that the rows of the word embedding belong to, or None.
      source_sha256: of the file they were read from; empty where there was none.
    """

    part: str
    layout: str
    params: dict[str, Any]
    config: dict[str, Any]
    dropped: tuple[tuple[str, str], ...] = ()
    tokenizer_json: str | None = None
    source_sha256: str = ""


def import_weights(
    layout: str,
    arrays: Arrays,
    *,
    heads: int | None = None,
    layers: int | None = None,
    image_size: int | None = None,
    vocabulary: str | None = None,
    skipped: Iterable[tuple[str, str]] = (),
    source_sha256: str = "",
) -> Imported:
    """Maps a checkpoint's arrays to our parameters, all or nothing.

    Args:
      layout: a name in `LAYOUTS`.
      arrays: {dotted key: array}, of any floating dtype; float32 comes out.
      heads: attention heads where the layout's usual number is wrong: shapes do not tell.
      layers: how many the source is known to have, so that a missing last layer is noticed.
      image_size: pixels; the position embeddings of a ViT are interpolated to it. None = the source's own.
      vocabulary: text of the tokenizer.json whose ids are the rows of the word embedding.
      skipped: what the reader left out, with reasons; listed with `dropped`.
      source_sha256: of the file, written down with the result.

    Raises:
      UserError: an unknown layout, keys that no rule knows, parameters that stay empty, other shapes than expected, a
        vocabulary of another size. Names every key, with a table of the differences.
    """
    table = _table(layout)
    stripped = _strip(table, arrays)
    config = _configure(table, {key: arrays[name] for key, name in stripped.items()}, heads, layers)
    expected = flatten({table.part: table.abstract(config)})
    filled, dropped, problems = _apply(table, stripped, arrays, config)
    problems += _compare(table, stripped, filled, expected)
    if problems:
        raise UserError(_message(table, problems))
    params = nest(filled)
    if image_size is not None:
        params, config = interpolate.resize_params(params, config, image_size)
    if vocabulary is not None:
        vocabularies.check_size(vocabulary, config)
    return Imported(table.part, layout, params, config, (*dropped, *skipped), vocabulary, source_sha256)


def _table(name: str) -> Layout:
    if name not in LAYOUTS:
        known = ", ".join(sorted(LAYOUTS))
        raise UserError(f"unknown layout {name!r}{suggest(name, LAYOUTS)}: choose one of {known}")
    return LAYOUTS[name]


def _strip(layout: Layout, arrays: Arrays) -> dict[str, str]:
    """{key without prefix: key as it stands in the source}."""
    found: dict[str, str] = {}
    for name in arrays:
        key = layout.strip(name)
        if key in found:
            raise UserError(
                f"layout {layout.name}: {found[key]!r} and {name!r} stand for one array; give a file with one model"
            )
        found[key] = name
    return found


def _configure(layout: Layout, arrays: Arrays, heads: int | None, layers: int | None) -> dict[str, Any]:
    """The config fragment, heads included; refuses what the layout rules out."""
    try:
        config = dict(layout.configure(arrays))
    except (KeyError, IndexError, StopIteration) as error:
        missing = error.args[0] if error.args else "its usual keys"
        raise UserError(
            f"this is no {layout.name} checkpoint: it lacks {missing}; it has {_few(sorted(arrays))}. "
            "Choose another --layout"
        ) from None
    if layout.heads is not None:
        config["heads"] = heads or layout.heads(config)
        if config["width"] % config["heads"]:
            raise UserError(f"{config['heads']} heads do not divide the width {config['width']}: set --heads")
    for key, value in (*layout.known, *((("layers", layers),) if layers else ())):
        if config.get(key) != value:
            raise UserError(
                f"{layout.name}: {key} is {config.get(key)} in this file, expected {value}"
                + ("; some layers are missing, or it is another model" if key == "layers" else "; it is another model")
            )
    return config


def _apply(
    layout: Layout, stripped: Mapping[str, str], arrays: Arrays, config: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], list[tuple[str, str]], list[str]]:
    """Runs every array through the one rule or drop that names it: filled parameters, dropped keys, problems."""
    filled: dict[str, np.ndarray] = {}
    dropped: list[tuple[str, str]] = []
    problems: list[str] = []
    for key, name in stripped.items():
        reason = next((why for pattern, why in layout.drops if re.fullmatch(pattern, key)), None)
        match = next(((r, m) for r in layout.rules if (m := re.fullmatch(r.pattern, key))), None)
        if match is None and reason is None:
            problems.append(f"unknown   {name}")
        elif match is None:
            dropped.append((name, str(reason)))
        else:
            rule, groups = match[0], match[1].groups()
            try:
                values = rule.transform(_floats(arrays[name]), config)
            except ValueError as error:
                problems.append(f"shape     {name}: {error}")
                values = ()
            values = values if isinstance(values, tuple) else (values,)
            for target, value in zip(rule.targets, values, strict=False):
                filled[target.format(*groups)] = np.ascontiguousarray(value)
    return filled, dropped, problems


def _floats(array: np.ndarray) -> np.ndarray:
    """float32; ValueError for integers: quantised weights, or a damaged header, and no parameter."""
    if not jax.numpy.issubdtype(array.dtype, jax.numpy.floating):  # bfloat16 is one, too
        raise ValueError(f"it holds {array.dtype}, expected floating-point numbers")
    return np.asarray(array, np.float32)


def _compare(
    layout: Layout, stripped: Mapping[str, str], filled: Mapping[str, np.ndarray], expected: Mapping[str, Any]
) -> list[str]:
    """Rows for parameters that stay empty, that nobody asked for, and of another shape."""
    problems = []
    refused = set()
    for target in sorted(expected.keys() - filled.keys()):
        key = _source_key(layout, target)
        if key in stripped or key in refused:  # there, but refused for its shape; or named already (fused arrays)
            continue
        refused.add(key)
        problems.append(f"missing   {key}: nothing fills {target}")
    for target in sorted(filled.keys() - expected.keys()):
        problems.append(f"too much  {_source_key(layout, target)}: this model has no {target}")
    for target in sorted(filled.keys() & expected.keys()):
        have, want = filled[target].shape, tuple(expected[target].shape)
        if have != want:
            hint = "; it looks transposed" if have == want[::-1] else ""
            key = _source_key(layout, target)
            problems.append(f"shape     {key} -> {target}: {list(have)}, expected {list(want)}{hint}")
    return problems


def _source_key(layout: Layout, target: str) -> str | None:
    return next((key for rule in layout.rules if (key := example_key(rule, target))), None)


def _message(layout: Layout, problems: list[str]) -> str:
    more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    head = f"{len(problems)} differences from layout {layout.name}; nothing was imported"
    return "\n  ".join([head + ":", *problems[:_SHOWN], *more])


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else "nothing"
