"""Starting a run from weights: an imported directory, or what another run of ours has learned (MAE, MLM).

`model.<part>.init` names the directory. All of a part is filled, or the run is refused; only the rows of a vocabulary
that the source does not know keep their random start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from vlm_jax.checkpoint.store import restore_for_inference
from vlm_jax.config.schema import Config
from vlm_jax.errors import UserError
from vlm_jax.weights.export import is_export, read_export
from vlm_jax.weights.fit import Value, fit_part
from vlm_jax.weights.store import is_imported, read_imported
from vlm_jax.weights.tree import flatten
from vlm_jax.weights.vocabulary import spellings
from vlm_jax.weights.whole import KEY, fit_whole, read_whole

PARTS = ("image_encoder", "text_encoder", "backbone", "gpt")
"""Parts that can be started from weights: `model.<part>.init`."""

COPIES = {"question_embedding": "gpt/word_embedding"}
"""Parameters that start as a copy of another one of the source (SurgicalGPT embeds its words by a copy of GPT-2's)."""

STRUCTURE = (
    "name",
    "width",
    "width_factor",
    "layers",
    "depths",
    "heads",
    "mlp",
    "patch",
    "epsilon",
    "window",
    "token_types",
)
"""Settings that must be the source's."""


@dataclass(frozen=True)
class Source:
    """A part as it lies in a directory.

    Attributes:
      arrays: {"blocks/layer_0/norm_1/scale": array}, names below the part.
      config: settings of the part, as far as the source tells.
      tokens: token of each vocabulary row, or None where the source has none.
      label: what it is, for messages.
      learned_from: `Meta.sources` of the run that it is of, and of those that this one started from; () if imported.
    """

    arrays: dict[str, np.ndarray]
    config: dict[str, Any]
    tokens: tuple[str, ...] | None
    label: str
    learned_from: tuple[dict[str, Any], ...] = ()


def initialise(
    params: Any, config: Config, tokens: Sequence[str], labels: Sequence[str] = ()
) -> tuple[Any, list[str], tuple[dict[str, Any], ...]]:
    """Replaces all by a trained model (`train.start_from`), then the parts that the config names by their weights.

    Args:
      params: a fresh tree {part: ...}, jax arrays on any sharding or numpy arrays.
      config: of the run; `train.start_from`, and `model.<part>.init` of each of `PARTS`.
      tokens: token of each id of the run's tokenizer.
      labels: scoped landmark names of the run.

    Returns:
      The tree, one line a part that says what was loaded, and what the sources had learned from (`Meta.inherited`).

    Raises:
      UserError: no such part in this system, nothing to read there, other sizes than the config's, or a vocabulary that
        cannot be matched. Names the settings or parameters.
    """
    notices: list[str] = []
    learned_from: list[dict[str, Any]] = []
    if (whole := read_whole(config)) is not None:
        values, remarks = fit_whole(params, whole, config, tokens, labels)
        for part, v in values.items():
            params = {**params, part: _replace(params[part], v) if isinstance(v, dict) else _place(params[part], v)}
        label = f"step {whole.step} of a run of {whole.meta.config.name}"
        notices.append("; ".join([f"{KEY}: all starts from {config.train.start_from} ({label})", *remarks]))
        learned_from += [whole.meta.sources, *whole.meta.inherited]
    for part in PARTS:
        directory = getattr(getattr(config.model, part, None), "init", "")
        if not directory:
            continue
        key = f"model.{part}.init"
        if part not in params:
            raise UserError(f"{key} is set, but system {config.system} has no {part}: leave it out")
        source = read_source(directory, part)
        _check_structure(config, part, source)
        target = flatten(params[part])
        values, remarks = fit_part(part, source.arrays, source.tokens, target, tokens, f"{key}: {directory}")
        params = {**params, part: _replace(params[part], values)}
        for name, original in COPIES.items():
            if name in params and original.startswith(part + "/"):
                params = {**params, name: _place(params[name], values[original.removeprefix(part + "/")])}
        remarks = [*remarks, *_normalisation(config, part, source)]
        notices.append("; ".join([f"{key}: {part} starts from {directory} ({source.label})", *remarks]))
        learned_from += [one for one in source.learned_from if one not in learned_from]
    return params, notices, tuple(learned_from)


def read_source(directory: str, part: str) -> Source:
    """A part of an imported directory, an export, or a work directory, its checkpoints/ or a step (the best one).

    Raises:
      UserError: neither is there, or it holds no such part.
    """
    path = epath.Path(directory)
    learned_from: tuple[dict[str, Any], ...] = ()
    if not path.exists():
        raise UserError(
            f"model.{part}.init: {directory} does not exist; give a directory that `vlm-jax weights import` or "
            "`vlm-jax train` wrote"
        )
    if is_imported(path):
        imported = read_imported(path)
        params, config = imported.params, imported.config
        tokens = spellings(imported.tokenizer_json) if imported.tokenizer_json else None
        label = f"layout {imported.layout}"
    else:
        restored = read_export(path) if is_export(path) else restore_for_inference(path)
        params, meta = restored.params, restored.meta
        section = getattr(meta.config.model, part, None)
        config = dataclasses.asdict(section) if section is not None else {}
        tokens = spellings(meta.tokenizer) if meta.tokenizer else None
        label = f"step {restored.step} of a run of {meta.config.name}"
        learned_from = (meta.sources, *meta.inherited)
    if part not in params:
        raise UserError(f"model.{part}.init: {directory} holds {', '.join(sorted(params))}, but no {part}")
    arrays = {name: np.asarray(v) for name, v in flatten(params[part]).items()}
    return Source(arrays, config, tokens, label, learned_from)


def _check_structure(config: Config, part: str, source: Source) -> None:
    """UserError with every setting to change where the run's part has other sizes than the source."""
    section = getattr(config.model, part)
    wrong = [
        (key, getattr(section, key), source.config[key])
        for key in STRUCTURE
        if key in source.config
        and hasattr(section, key)
        and _plain(getattr(section, key)) != _plain(source.config[key])
    ]
    if wrong:
        differ = ", ".join(f"{key} is {ours} here and {theirs} there" for key, ours, theirs in wrong)
        flags = " ".join(f"--config.model.{part}.{key}={_text(theirs)}" for key, _, theirs in wrong)
        raise UserError(f"model.{part}.init: {source.label} does not fit this config: {differ}; set {flags}")


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _normalisation(config: Config, part: str, source: Source) -> list[str]:
    """A remark where the source was trained on differently normalised images."""
    section = getattr(config.model, part)
    for key in ("mean", "std"):
        theirs = source.config.get(key)
        if theirs is not None and not np.allclose(theirs, getattr(section, key)):
            pairs = ((k, source.config[k]) for k in ("mean", "std") if k in source.config)
            flags = " ".join(f"--config.model.{part}.{k}={_text(v)}" for k, v in pairs)
            return [f"its images were normalised otherwise: {flags} would normalise as it was trained"]
    return []


def _replace(tree: Any, values: Mapping[str, Value], prefix: str = "") -> Any:
    """The tree with its leaves replaced; every leaf has a value."""
    return {
        name: _replace(leaf, values, f"{prefix}{name}/")
        if isinstance(leaf, Mapping)
        else _place(leaf, values[prefix + name])
        for name, leaf in tree.items()
    }


def _place(leaf: Any, value: Value) -> Any:
    """The new leaf where the old one lies: same dtype, same sharding, on every process its own part."""
    array = value.array.astype(leaf.dtype)
    if not isinstance(leaf, jax.Array):
        return array if value.known is None else np.where(value.known, array, leaf)
    read: Callable[[Any], np.ndarray] = lambda index: array[index]  # noqa: E731
    new = jax.make_array_from_callback(leaf.shape, leaf.sharding, read)
    if value.known is None:
        return new
    merge = jax.jit(lambda known, n, old: jnp.where(known, n, old), out_shardings=leaf.sharding)
    return merge(value.known, new, leaf)
