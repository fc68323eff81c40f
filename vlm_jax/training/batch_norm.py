"""Running statistics of batch norms: parameters that no gradient reaches and that every pass in training rewrites.

The optimiser's updates of them are overwritten, the moving average takes them as they are (they are averages already),
and where `optim.freeze` names them the norm acts as in evaluation, so that a frozen network is the same in both.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np

from vlm_jax.models.backbones.convolution import FROZEN, STATISTICS
from vlm_jax.parallel.partition import param_name

_RUNNING = re.compile(r"(?:.*/)?running_(?:mean|variance)")

Tree = dict[str, Any]


def frozen_collection(params: Tree, freeze: str) -> Tree:
    """{FROZEN: flags at the running statistics that the regular expression `freeze` matches}, or {}."""
    flags: Tree = {}
    for path, _ in jax.tree_util.tree_flatten_with_path(params)[0] if freeze else ():
        name = param_name(path)
        if _RUNNING.fullmatch(name) and re.search(freeze, name):
            *parents, leaf = name.split("/")
            node = flags
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = np.True_
    return {FROZEN: flags} if flags else {}


def apply_in_training(model: Any, params: Tree, freeze: str, *inputs: Any, rngs: Tree) -> tuple[Any, Tree]:
    """The model's outputs and the running statistics after this pass, a subtree of `params` (empty without norms)."""
    variables = {"params": params, **frozen_collection(params, freeze)}
    outputs, updated = model.apply(variables, *inputs, train=True, rngs=rngs, mutable=[STATISTICS])
    return outputs, dict(updated.get(STATISTICS, {}))


def overwrite(params: Any, statistics: Tree) -> Any:
    """`params` with the leaves of `statistics`, a subtree of it, in their places."""
    new = {
        key: overwrite(params[key], value) if isinstance(value, dict) else value for key, value in statistics.items()
    }
    return {**params, **new}


def running(params: Tree, statistics: Tree) -> Tree:
    """The leaves of `params` where `statistics`, a subtree of it, has leaves."""
    return {k: running(params[k], v) if isinstance(v, dict) else params[k] for k, v in statistics.items()}
