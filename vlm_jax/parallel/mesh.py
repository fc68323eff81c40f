"""The one place that makes meshes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from vlm_jax.config.schema import ParallelConfig
from vlm_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")
"""data: whole copies of the model; fsdp: copies whose parameters are split; tensor: one copy, its heads split."""


def make_mesh(parallel: ParallelConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with axes data, fsdp, tensor over `devices` (default: all devices of all processes).

    Axes are of type Auto, for flax.linen leaves the collectives to the compiler; `jax.make_mesh` alone makes Explicit
    ones. Where there are several granules (TPU slices, else processes), the data axis goes across them wherever it is
    a multiple of their number, so that fsdp and tensor stay on the fast network inside.

    Raises:
      UserError: the sizes do not multiply to the number of devices, or `tensor` would go across granules.
    """
    devices = jax.devices() if devices is None else list(devices)
    granules = granules_of(devices)
    shape = axis_sizes(parallel, len(devices), len(granules))
    kinds = (AxisType.Auto,) * len(AXES)
    if len(granules) == 1:
        return jax.make_mesh(shape, AXES, axis_types=kinds, devices=devices)
    inside = len(devices) // len(granules)
    if inside % shape[2]:
        raise UserError(
            f"parallel.tensor={shape[2]} would go across hosts or slices of {inside} devices, which is not supported: "
            "make it divide them"
        )
    ordered = np.empty(len(devices), object)
    ordered[:] = [device for granule in granules for device in granule]  # tensor varies fastest, data slowest
    return Mesh(ordered.reshape(shape), AXES, axis_types=kinds)


def granules_of(devices: Sequence[Any]) -> list[list[Any]]:
    """The devices by TPU slice where there is more than one, else by process; each granule in the order of its ids.

    Within a slice the order of processes is kept, so that a process's devices lie side by side.

    Raises:
      UserError: granules of different sizes.
    """
    slices = {getattr(device, "slice_index", 0) or 0 for device in devices}
    groups: dict[int, list[Any]] = {}
    for device in sorted(devices, key=lambda d: (d.process_index, d.id)):
        key = (getattr(device, "slice_index", 0) or 0) if len(slices) > 1 else device.process_index
        groups.setdefault(key, []).append(device)
    sizes = {len(group) for group in groups.values()}
    if len(sizes) > 1:
        raise UserError(f"hosts or slices have different numbers of devices ({sorted(sizes)}): each needs the same")
    if len(slices) == 1 and len({getattr(d, "platform", "") for d in devices} & {"tpu"}):
        return [list(devices)]  # one slice: its network is one, and jax.make_mesh knows its shape
    return [groups[key] for key in sorted(groups)]


def axis_sizes(parallel: ParallelConfig, n_devices: int, n_granules: int = 1) -> tuple[int, int, int]:
    """Sizes of data, fsdp and tensor, with -1 (at most one) replaced by what is left of `n_devices`.

    `parallel.mesh` other than custom chooses them: data (copies of the model), fsdp (one copy, split over all), tensor
    (pairs of devices share a copy, or as many as parallel.tensor says), hybrid (fsdp inside a granule, data across).
    """
    tensor = parallel.tensor
    given = {
        "custom": (parallel.data, parallel.fsdp, tensor),
        "data": (-1, 1, 1),
        "fsdp": (1, -1, 1),
        "tensor": (-1, 1, 2 if tensor == 1 else tensor),
        "hybrid": (n_granules, -1, tensor),
    }[parallel.mesh]
    text = ", ".join(f"parallel.{axis}={size}" for axis, size in zip(AXES, given, strict=True))
    if any(size < 1 and size != -1 for size in given) or given.count(-1) > 1:
        raise UserError(f"{text}: expected sizes of at least 1, one of them -1 at most (what is left)")
    fixed = math.prod(size for size in given if size != -1)
    left = n_devices // fixed if -1 in given else 1
    if fixed * left != n_devices:
        raise UserError(f"{text} does not make up the {n_devices} devices here; their product must be {n_devices}")
    data, fsdp, tensor = (left if size == -1 else size for size in given)
    return data, fsdp, tensor
