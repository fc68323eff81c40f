"""The one place that makes meshes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from vlm_jax.config.schema import ParallelConfig
from vlm_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")
"""data: whole copies of the model; fsdp: copies whose parameters are split; tensor: one copy, its heads split."""


def make_mesh(parallel: ParallelConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with axes data, fsdp, tensor over `devices` (default: all devices of all processes).

    Axes are of type Auto, for flax.linen leaves the collectives to the compiler; `jax.make_mesh` alone makes Explicit
    ones.

    Raises:
      UserError: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    shape = axis_sizes(parallel, len(devices))
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def axis_sizes(parallel: ParallelConfig, n_devices: int) -> tuple[int, int, int]:
    """Sizes of data, fsdp and tensor, with -1 (at most one) replaced by what is left of `n_devices`."""
    given = (parallel.data, parallel.fsdp, parallel.tensor)
    text = ", ".join(f"parallel.{axis}={size}" for axis, size in zip(AXES, given, strict=True))
    if any(size < 1 and size != -1 for size in given) or given.count(-1) > 1:
        raise UserError(f"{text}: expected sizes of at least 1, one of them -1 at most (what is left)")
    fixed = math.prod(size for size in given if size != -1)
    left = n_devices // fixed if -1 in given else 1
    if fixed * left != n_devices:
        raise UserError(f"{text} does not make up the {n_devices} devices here; their product must be {n_devices}")
    data, fsdp, tensor = (left if size == -1 else size for size in given)
    return data, fsdp, tensor
