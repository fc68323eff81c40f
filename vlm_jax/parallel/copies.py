"""Values that several products use, laid out as one copy for each device of a mesh axis.

The gradient of such a value is a sum over its uses and over devices. The compiler reduces each use over the devices and
adds then: a word embedding that is used three times is sent three times. With a leading axis of copies, split over
the mesh, the uses are added where they arise, and only the sum over copies is sent: once. Nothing is stored that was
not stored before, for a device holds its own copy alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from vlm_jax.parallel.partition import BATCH_AXES


def axis_size(*names: str) -> int:
    """Devices along mesh axes of `jax.set_mesh`; 1 without a mesh or without such an axis."""
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape.get(name, 1) for name in names)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TensorCopies:
    """An activation [B, ...] as copies [n, B, ...], one for each of the n devices along `tensor`."""

    array: jax.Array


def tensor_copies(x: jax.Array | TensorCopies) -> jax.Array | TensorCopies:
    """What several products split over `tensor` read: [B, ...] as copies, or as it is where nothing is split."""
    n = axis_size("tensor")
    if isinstance(x, TensorCopies) or n == 1:
        return x
    rows = BATCH_AXES if x.shape[0] % axis_size(*BATCH_AXES) == 0 else None
    return TensorCopies(_copies(x, n, PartitionSpec("tensor", rows)))


def heads_of_copies(x: TensorCopies, kernel: jax.Array) -> jax.Array:
    """[n, B, ..., D] by a kernel [D, N, H] split over heads -> [B, ..., N, H]; each device its own heads."""
    n = x.array.shape[0]
    d, heads, width = kernel.shape
    parts = kernel.reshape(d, n, heads // n, width)
    out = jnp.einsum("c...d,dcnh->...cnh", x.array, parts)
    return out.reshape(*out.shape[:-3], heads, width)


def row_copies(table: jax.Array) -> jax.Array | None:
    """A table [V, D] as copies [n, V, D], one for each shard of the batch; its rows may be split over `tensor`.

    None where the batch is in one piece.
    """
    outer, inner = (axis_size(axis) for axis in BATCH_AXES)
    if outer * inner == 1:
        return None
    rows = "tensor" if table.shape[0] % axis_size("tensor") == 0 else None
    if outer > 1 and inner > 1:  # one axis after the other: scattered over fsdp first, so that data sends a part alone
        table = _copies(table, outer, PartitionSpec(BATCH_AXES[0], rows, PartitionSpec.UNCONSTRAINED))
        table = jnp.broadcast_to(table[:, None], (outer, inner, *table.shape[1:]))
        table = jax.lax.with_sharding_constraint(table, PartitionSpec(*BATCH_AXES, rows))
        return table.reshape(outer * inner, *table.shape[2:])
    return _copies(table, outer * inner, PartitionSpec(BATCH_AXES, rows))


def over_shards(fn: Callable[[jax.Array, jax.Array], jax.Array], copies: jax.Array, x: jax.Array) -> jax.Array:
    """fn(copy, its rows of x) for each shard of the batch: x [B, ...] -> [B, ...], B a multiple of the shards."""
    n = copies.shape[0]
    out = jax.vmap(fn)(copies, x.reshape(n, x.shape[0] // n, *x.shape[1:]))
    return out.reshape(x.shape[0], *out.shape[2:])


def _copies(x: jax.Array, n: int, spec: PartitionSpec) -> jax.Array:
    return jax.lax.with_sharding_constraint(jnp.broadcast_to(x[None], (n, *x.shape)), spec)
