"""Rows to batches, in one order for every process count, read ahead by threads.

grain's ElasticIterator gives shard r of n the elements r, r + n, r + 2n, ... of a batch. Put side by side, the shards'
slices would be ordered otherwise for another n. So the indices are remapped: shard r takes the r-th contiguous part.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import grain
import grain.experimental
import jax
import numpy as np
from jax.sharding import Mesh

from vlm_jax.contract import Batch
from vlm_jax.data.collate import Row
from vlm_jax.errors import UserError
from vlm_jax.parallel.partition import batch_sharding

MAX_BUFFERED_BATCHES = 8


def contiguous_slot(index: int, batch_size: int, shard_count: int) -> int:
    """The slot that element `index` of ElasticIterator's order must hold, so that shard r reads slots r*b to (r+1)*b-1.

    b = batch_size / shard_count. A bijection within each batch.
    """
    batch, place = divmod(index, batch_size)
    step, shard = divmod(place, shard_count)
    return batch * batch_size + shard * (batch_size // shard_count) + step


def read_batches(
    make_row: Callable[[int], Row],
    *,
    batch_size: int,
    shard: tuple[int, int] = (0, 1),
    start: int = 0,
    n_batches: int | None = None,
    threads: int = 2,
    prefetch: int = 8,
) -> Iterator[Batch]:
    """This shard's part of batch `start`, `start` + 1, ... as numpy; without end unless `n_batches` is given.

    Args:
      make_row: slot -> row; called from threads.
      batch_size: global, over all shards.
      shard: (index, count).
      start: the first batch.
      n_batches: where batches end (not how many remain after `start`).
      threads: readers, each making a whole batch.
      prefetch: rows that a thread may hold ready; at least one batch a thread is held, at most 8 in all.
    """
    index, count = shard
    if batch_size % count:
        raise UserError(f"train.batch_size={batch_size} does not divide among {count} data shards; take a multiple")
    total = sys.maxsize // 2 if n_batches is None else n_batches * batch_size
    rows = grain.MapDataset.range(total).map(lambda i: make_row(contiguous_slot(int(i), batch_size, count)))
    buffered = min(MAX_BUFFERED_BATCHES, threads * prefetch * count // batch_size)
    shards = grain.sharding.ShardOptions(shard_index=index, shard_count=count)
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(threads, buffered))
    iterator = iter(grain.experimental.ElasticIterator(rows, batch_size, shards, read_options=reading))
    iterator.set_state({"global_next_index": start * batch_size})
    try:
        for arrays in iterator:
            yield Batch(**arrays)
    finally:
        iterator.close()


# --- Meshes ----------------------------------------------------------------------------------------------------------


def data_shard(mesh: Any, process_index: int) -> tuple[int, int]:
    """(index, count): which part of each global batch this process reads, from its (data, fsdp) coordinates.

    Raises:
      UserError: one part would have to be read by two processes (tensor across hosts), or a process's parts are not
        next to one another.
    """
    sizes = dict(zip(mesh.axis_names, mesh.devices.shape, strict=True))
    tensor = sizes.get("tensor", 1)
    groups = np.asarray(mesh.devices).reshape(-1, tensor)
    owners = [{device.process_index for device in group} for group in groups]
    if any(len(owner) > 1 for owner in owners):
        raise UserError(f"parallel.tensor={tensor} spans processes, which is not supported; make it fit one process")
    order = [next(iter(owner)) for owner in owners]
    mine = [i for i, owner in enumerate(order) if owner == process_index]
    width = len(mine)
    if not mine or mine != list(range(mine[0], mine[0] + width)) or mine[0] % width or len(order) % width:
        raise UserError(
            f"process {process_index} holds the data shards {mine} of {len(order)}: each process needs the same "
            "number, next to one another; change parallel.data and parallel.fsdp"
        )
    return mine[0] // width, len(order) // width


def check_divides(mesh: Any, batch_size: int, key: str) -> None:
    """UserError unless every (data, fsdp) coordinate of the mesh gets the same number of rows."""
    sizes = dict(zip(mesh.axis_names, mesh.devices.shape, strict=True))
    shards = sizes.get("data", 1) * sizes.get("fsdp", 1)
    if batch_size % shards:
        raise UserError(f"{key}={batch_size} does not divide among {shards} data shards; take a multiple of {shards}")


def to_global(batch: Batch, mesh: Mesh, batch_size: int) -> Batch:
    """Global arrays from this process's part; uint8 images travel as they are."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x, (batch_size, *x.shape[1:])), batch
    )
