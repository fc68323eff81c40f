"""Strict restore: what a checkpoint holds is compared with what the run builds before a byte is read.

Orbax returns the disk's shape where the target's differs, without a word, and casts dtypes silently.
"""

from __future__ import annotations

from typing import Any

import jax

from vlm_jax.errors import UserError
from vlm_jax.parallel.partition import param_name

_SHOWN = 8


def leaves(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """{path: (shape, dtype)} of every array-like leaf; works on arrays, ShapeDtypeStructs and orbax metadata."""
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))[0]
    return {param_name(path): (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in flat if hasattr(leaf, "shape")}


def require_same(stored: Any, expected: Any, *, item: str, where: str) -> None:
    """Raises UserError naming every leaf (up to eight) that is missing, unexpected or of another shape or dtype."""
    have, want = leaves(stored), leaves(expected)
    lines = [f"{name} is missing in the checkpoint" for name in sorted(want.keys() - have.keys())]
    lines += [f"{name} is not part of this model" for name in sorted(have.keys() - want.keys())]
    lines += [
        f"{name} is {have[name][0]} {have[name][1]} in the checkpoint, {want[name][0]} {want[name][1]} in this model"
        for name in sorted(have.keys() & want.keys())
        if have[name] != want[name]
    ]
    if not lines:
        return
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    raise UserError(
        f"the checkpoint {where} does not fit ({item}): {'; '.join(lines[:_SHOWN])}{more}. "
        "Use the configuration it was trained with, or another --workdir"
    )
