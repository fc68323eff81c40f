"""Order: batch i is the same rows for every number of processes, from every starting point."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_jax.data.pipeline import check_divides, contiguous_slot, data_shard, read_batches
from vlm_jax.errors import UserError


@given(count=st.integers(1, 8), each=st.integers(1, 6), batch=st.integers(0, 5))
def test_the_remapping_gives_each_shard_its_contiguous_part(count, each, batch):
    size = count * each
    start = batch * size
    for r in range(count):
        read = range(start + r, start + size, count)  # what ElasticIterator gives shard r
        slots = [contiguous_slot(i, size, count) for i in read]
        assert slots == list(range(start + r * each, start + (r + 1) * each))


def rows_of(count: int, start: int, n: int) -> list[list[int]]:
    """The first n batches from `start` on, put together from `count` shards."""

    def one(index: int):
        batches = read_batches(slot_row, batch_size=8, shard=(index, count), start=start)
        taken = [b.uid.tolist() for b in itertools.islice(batches, n)]
        batches.close()
        return taken

    shards = [one(i) for i in range(count)]
    return [sum((shard[i] for shard in shards), []) for i in range(n)]


FIELDS = ("image", "frame_mask", "landmarks", "landmarks_mask", "prompt", "target", "task_mask", "valid")


def slot_row(slot: int):
    return {**{name: np.zeros((), np.int32) for name in FIELDS}, "uid": np.array(slot)}


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_rows_and_their_order_do_not_depend_on_the_process_count(count):
    assert rows_of(count, 0, 5) == [list(range(8 * i, 8 * i + 8)) for i in range(5)]


def test_resuming_at_a_step_gives_the_batches_that_would_have_come():
    assert rows_of(2, 3, 2) == rows_of(1, 0, 5)[3:]


def test_a_finite_stream_ends():
    assert len(list(read_batches(slot_row, batch_size=8, n_batches=3))) == 3
    assert list(read_batches(slot_row, batch_size=8, n_batches=0)) == []


def test_a_batch_that_does_not_divide():
    with pytest.raises(UserError, match="does not divide among 3"):
        next(read_batches(slot_row, batch_size=8, shard=(0, 3)))


# --- Meshes ----------------------------------------------------------------------------------------------------------


def mesh_of(processes) -> SimpleNamespace:
    """A mesh of devices that belong to these processes: [data, fsdp, tensor]."""
    array = np.array(processes)
    devices = np.empty(array.shape, object)
    for place in np.ndindex(array.shape):
        devices[place] = SimpleNamespace(process_index=int(array[place]))
    return SimpleNamespace(devices=devices, axis_names=("data", "fsdp", "tensor"))


def test_shards_come_from_the_data_and_fsdp_coordinates():
    mesh = mesh_of([[[0, 0], [0, 0]], [[1, 1], [1, 1]]])
    assert [data_shard(mesh, p) for p in (0, 1)] == [(0, 2), (1, 2)]
    assert data_shard(mesh_of([[[0, 0, 0, 0]]]), 0) == (0, 1)
    fsdp_across = mesh_of([[[0], [1]], [[2], [3]]])
    assert [data_shard(fsdp_across, p) for p in range(4)] == [(p, 4) for p in range(4)]
    swapped = mesh_of([[[1]], [[0]]])
    assert data_shard(swapped, 0) == (1, 2)


@pytest.mark.parametrize("processes", [[[[0, 1]]], [[[0]], [[1]], [[0]], [[1]]], [[[0]], [[0]], [[1]]]])
def test_layouts_that_cannot_be_read(processes):
    with pytest.raises(UserError, match="process"):
        for p in (0, 1):
            data_shard(mesh_of(processes), p)


def test_a_batch_must_divide_among_the_data_shards():
    mesh = mesh_of([[[0], [0]], [[0], [0]]])
    check_divides(mesh, 8, "train.batch_size")
    with pytest.raises(UserError, match="train.batch_size=6 does not divide among 4 data shards; take a multiple of 4"):
        check_divides(mesh, 6, "train.batch_size")


def test_what_is_read_stays_on_the_host(monkeypatch):
    """Where a batch goes is the business of whoever reads: nothing is put on a device on the way."""
    monkeypatch.setattr(jax, "device_put", lambda *_: pytest.fail("put on a device"))
    batch = next(read_batches(slot_row, batch_size=4))
    assert {type(getattr(batch, name)) for name in (*FIELDS, "uid")} == {np.ndarray}
