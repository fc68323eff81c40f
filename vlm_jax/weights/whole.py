"""Starting a run from a whole trained model: fine-tuning on other data, with their own landmarks and words.

`train.start_from` names a run of system `vlm`, or its export. Every parameter starts from it; what it does not know
(columns of new landmarks, rows of new tokens) keeps its random start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vlm_jax.checkpoint.store import TRAINING_ONLY, Restored, restore_for_inference
from vlm_jax.config.rules import get
from vlm_jax.config.schema import Config
from vlm_jax.errors import UserError
from vlm_jax.parallel import distributed
from vlm_jax.weights.export import is_export, read_export
from vlm_jax.weights.fit import Value, fit_part, match_rows
from vlm_jax.weights.tree import flatten
from vlm_jax.weights.vocabulary import spellings

KEY = "train.start_from"
LABELLED = {
    "landmark_head": {"linear/kernel": -1, "linear/bias": -1},
    "landmark_tokens": {"embedding": 1},
    "region_head": {"linear/kernel": -1, "linear/bias": -1},
}
"""Part -> its parameters that have a landmark axis, and which axis that is."""
SIZES = ("width", "layers", "heads", "mlp", "patch", "stem", "name", "width_factor", "epsilon", "token_types")
"""Settings of a part that shapes do not tell, or tell less plainly."""
SECTIONS = ("image_encoder", "text_encoder", "backbone", "decoder")
ALIKE = ("model.fusion", "model.no_image", "model.no_text", "data.frames")
"""Other settings that make another model of the same parts, or of others."""


def read_whole(config: Config) -> Restored | None:
    """What `train.start_from` names: the best step of a run, or an export; None where nothing is named.

    Raises:
      UserError: nothing to read there, or a model of another system or of other sizes; names the settings to change.
    """
    directory = config.train.start_from
    if not directory:
        return None
    path = epath.Path(directory)
    if not path.exists():
        raise UserError(f"{KEY}: {directory} does not exist; give the work directory of a run, or an export of one")
    found = read_export(path) if is_export(path) else restore_for_inference(path)
    theirs = found.meta.config
    if (config.system, theirs.system) != ("vlm", "vlm"):
        raise UserError(
            f"{KEY}: {directory} is of system {theirs.system}, this run of {config.system}: both must be vlm; parts of "
            "others are taken by model.<part>.init"
        )
    differ = [(key, get(config, key), get(theirs, key)) for key in ALIKE if get(config, key) != get(theirs, key)]
    for section in SECTIONS:
        ours, other = (dataclasses.asdict(getattr(c.model, section)) for c in (config, theirs))
        differ += [
            (f"model.{section}.{key}", ours[key], other[key]) for key in SIZES if ours.get(key) != other.get(key)
        ]
    widths = [c.model.region_width for c in (config, theirs)]
    if all(widths) and widths[0] != widths[1]:  # a model without places may start from one with them, and the reverse
        differ.append(("model.region_width", widths[0], widths[1]))
    if differ:
        said = ", ".join(f"{key} is {a} here and {b} there" for key, a, b in differ[:4])
        raise UserError(f"{KEY}: {directory} is a run of {theirs.name}, another model ({said}): take its preset")
    steps = distributed.union([found.step])
    if len(steps) > 1:
        named = ", ".join(map(str, steps))
        raise UserError(
            f"{KEY}: {directory} is still being trained (processes read steps {named}): name one step's folder"
        )
    return found


def fit_whole(
    params: Mapping[str, Any], source: Restored, config: Config, tokens: Sequence[str], labels: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """Values for what the source knows of a fresh tree, nested as it is, and remarks for the person.

    Args:
      params: {part: tree or array}.
      source: the model to start from, as `read_whole` gives it.
      config: of the run.
      tokens: token of each id of the run's tokenizer.
      labels: scoped landmark names of the run, in the order of its columns.

    Raises:
      UserError: parameters of other shapes, or a vocabulary that cannot be matched.
    """
    where = f"{KEY}: {config.train.start_from}"
    theirs = spellings(source.meta.tokenizer) if source.meta.tokenizer else None
    columns = match_labels(labels, source.meta.labels)
    values: dict[str, Any] = {}
    remarks: list[str] = []
    model = [part for part in params if part not in TRAINING_ONLY]
    for part in model:
        tree = params[part]
        if part not in source.params:
            remarks.append(f"{part} is not in it and starts at random")
        elif not isinstance(tree, Mapping):
            array = np.asarray(source.params[part])
            if part == "token_bias":
                values[part] = match_rows(array, theirs, tree.shape[0], tokens, where)[0]
            elif part == "region_vote":
                values[part] = _columns(array, columns, 0)
            elif array.shape == tree.shape:
                values[part] = Value(array)
            else:
                raise UserError(f"{where}: {part} is {list(array.shape)} in it and {list(tree.shape)} in this model")
        else:
            arrays = {name: np.asarray(v) for name, v in flatten(source.params[part]).items()}
            axes = LABELLED.get(part, {})
            labelled = {
                name: _columns(arrays.pop(name), columns, axis) for name, axis in axes.items() if name in arrays
            }
            target = {name: leaf for name, leaf in flatten(tree).items() if name not in labelled}
            found, said = fit_part(part, arrays, theirs, target, tokens, where)
            values[part] = found | labelled
            remarks += said
    if left := sorted(source.params.keys() - set(model)):
        remarks.append(f"{', '.join(left)} of it {'have' if len(left) > 1 else 'has'} no place here")
    remarks += _normalisation(config, source.meta.config)
    new = [name for name, column in zip(labels, columns, strict=True) if column < 0]
    if new:
        remarks.append(f"new landmarks, which start at random: {', '.join(new)}")
    return values, remarks


def _normalisation(config: Config, theirs: Config) -> list[str]:
    """A remark where the source was trained on differently normalised images."""
    keys = [f"model.{section}.{key}" for section in ("image_encoder", "backbone") for key in ("mean", "std")]
    differ = [key for key in keys if not np.allclose(get(config, key), get(theirs, key))]
    flags = " ".join(f"--config.{key}={','.join(f'{v:g}' for v in get(theirs, key))}" for key in differ)
    return [f"its images were normalised otherwise: {flags} would normalise as it was trained"] if differ else []


def match_labels(labels: Sequence[str], known: Sequence[str]) -> list[int]:
    """The place among `known` of each label, -1 where there is none: by its scoped name, else by the name alone where
    one source has it (what `fess` calls `nasal septum` another source calls so, too)."""
    bare: dict[str, list[int]] = {}
    for i, name in enumerate(known):
        bare.setdefault(name.partition("/")[2], []).append(i)
    places = {name: i for i, name in enumerate(known)}
    alone = {name: found[0] for name, found in bare.items() if len(found) == 1}
    return [places.get(name, alone.get(name.partition("/")[2], -1)) for name in labels]


def _columns(array: np.ndarray, columns: Sequence[int], axis: int) -> Value:
    """Slices of `array` along its landmark axis in the run's order; unknown ones are masked."""
    index = np.array(columns, np.int64)
    shape = [1] * array.ndim
    shape[axis] = len(index)
    return Value(np.take(array, np.maximum(index, 0), axis=axis), (index >= 0).reshape(shape))
