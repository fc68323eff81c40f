"""What the files beside a Hugging Face model say and its arrays do not: how many heads and layers it has, and how its
images were normalised."""

from __future__ import annotations

import json
import os
from pathlib import Path

from vlm_jax.errors import UserError
from vlm_jax.weights.layouts import LAYOUTS

_NAMES = {
    "heads": ("num_attention_heads", "n_head", "n_heads"),  # BERT and ViT, GPT-2, DistilBERT
    "layers": ("num_hidden_layers", "n_layer", "n_layers"),
}


def said_beside(source: str | os.PathLike[str], layout: str) -> dict[str, int]:
    """{"heads": N, "layers": N} of the config.json beside a file or in a directory, as far as it is there and says so.

    Raises:
      UserError: it is no JSON object.
    """
    given = Path(source)
    path = (given if given.is_dir() else given.parent) / "config.json"
    table = LAYOUTS.get(layout)
    if table is None or table.heads is None or not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = {ours: values.get(name) for ours, names in _NAMES.items() for name in names if name in values}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"'{path}' is no config.json of a model ({type(error).__name__}): mend or remove it") from None
    return {name: number for name, number in found.items() if type(number) is int and number > 0}


def normalisation_beside(source: str | os.PathLike[str]) -> dict[str, tuple[float, ...]]:
    """{"mean": 3 numbers, "std": 3 numbers} of the preprocessor_config.json beside a file or in a directory, else {}.

    Raises:
      UserError: it is no JSON object.
    """
    given = Path(source)
    path = (given if given.is_dir() else given.parent) / "preprocessor_config.json"
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not values.get("do_normalize", True):
            return {"mean": (0.0,) * 3, "std": (1.0,) * 3}
        found = {ours: values.get(theirs) for ours, theirs in (("mean", "image_mean"), ("std", "image_std"))}
    except (OSError, ValueError, AttributeError) as error:
        kind = type(error).__name__
        raise UserError(f"'{path}' is no preprocessor_config.json ({kind}): mend or remove it") from None
    good = all(isinstance(v, list) and len(v) == 3 and all(type(x) in (int, float) for x in v) for v in found.values())
    return {name: tuple(map(float, value)) for name, value in found.items()} if good else {}
