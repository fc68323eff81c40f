"""Trees of parameters as flat tables of names, `image_encoder/norm/scale`, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from vlm_jax.errors import UserError
from vlm_jax.parallel.partition import param_name


def flatten(tree: Any) -> dict[str, Any]:
    """{"image_encoder/norm/scale": leaf} of a nested dict of arrays or abstract arrays."""
    return {param_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict that `flatten` flattened.

    Raises:
      UserError: a name is both a group and an array.
    """
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *steps, last = name.split("/")
        node = tree
        for step in steps:
            node = node.setdefault(step, {})
            if not isinstance(node, dict):
                raise UserError(f"{name!r} lies below a parameter: no names of vlm-jax's own")
        if isinstance(node.get(last), dict):
            raise UserError(f"{name!r} is a parameter and a group of parameters: no names of vlm-jax's own")
        node[last] = value
    return tree
