"""Which collectives of a compiled step belong to the plan: over which mesh axes they go, and which gathers do not."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from vlm_jax.parallel.collectives import Collective
from vlm_jax.parallel.partition import param_name


def axes_of(groups: tuple[tuple[int, ...], ...], mesh: Mapping[str, int]) -> str:
    """The mesh axes, joined by "+", that the groups of a collective go over; "" for groups that follow no axis.

    Args:
      groups: positions of devices in the mesh's order, as the compiled program numbers them.
      mesh: {axis: size}.
    """
    found = {frozenset(group) for group in groups}
    ids = np.arange(math.prod(mesh.values())).reshape(tuple(mesh.values()))
    wide = [i for i, size in enumerate(mesh.values()) if size > 1]
    for n in range(1, len(wide) + 1):
        for inside in itertools.combinations(wide, n):
            rest = [i for i in range(len(mesh)) if i not in inside]
            rows = ids.transpose([*rest, *inside]).reshape(-1, math.prod(ids.shape[i] for i in inside))
            if {frozenset(map(int, row)) for row in rows} == found:
                return "+".join(list(mesh)[i] for i in inside)
    return ""


def unplanned_gathers(found: Iterable[Collective], params: Any, mesh: Mapping[str, int]) -> list[str]:
    """One line for each all-gather as large as a parameter that the mesh does not call for.

    Called for is one gather over `fsdp` of each parameter that it splits, of the part that `tensor` leaves to a device.
    Sizes are compared and not names, for the compiler gives a gather the name of what reads it.

    Args:
      found: what `collectives` read.
      params: tree of abstract parameters with shardings; those of one dimension and biases are too small to matter.
      mesh: {axis: size}.
    """
    planned: Counter[int] = Counter()
    names: dict[int, str] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = param_name(path)
        if len(leaf.shape) < 2 or name.endswith("bias"):
            continue
        axes = [axis for axis in leaf.sharding.spec if axis is not None]
        part = leaf.size // math.prod(mesh[axis] for axis in axes if axis != "fsdp")
        names.setdefault(leaf.size, name)
        names.setdefault(part, name)
        planned[part] += "fsdp" in axes and mesh["fsdp"] > 1
    lines = []
    for one in found:
        if one.kind != "all-gather":
            continue
        axes = axes_of(one.groups, mesh)
        for dtype, shape in one.arrays:
            size = math.prod(shape)
            if size not in names:
                continue
            planned[size] -= one.times if axes == "fsdp" else 0
            if axes != "fsdp" or planned[size] < 0:
                where = f"over {axes or 'no axis of the mesh'}, {one.size} devices"
                purpose = f", for {one.source}" if one.source else ""
                lines.append(f"{dtype}{list(shape)}, as large as {names[size]}, {where}{purpose}")
    return lines
