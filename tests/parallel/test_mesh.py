"""Meshes: sizes that multiply to the devices, or one line that says so."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from vlm_jax.config.schema import ParallelConfig
from vlm_jax.data.pipeline import data_shard
from vlm_jax.errors import UserError
from vlm_jax.parallel.mesh import AXES, axis_sizes, granules_of, make_mesh


@pytest.mark.parametrize(
    ("sizes", "n", "expected"),
    [
        ((-1, 1, 1), 1, (1, 1, 1)),
        ((-1, 2, 2), 8, (2, 2, 2)),
        ((2, -1, 1), 8, (2, 4, 1)),
        ((1, 1, -1), 4, (1, 1, 4)),
        ((2, 2, 2), 8, (2, 2, 2)),
    ],
)
def test_what_is_left_goes_to_the_open_axis(sizes, n, expected):
    assert axis_sizes(ParallelConfig(*sizes), n) == expected


@pytest.mark.parametrize(
    ("sizes", "n", "words"),
    [
        ((2, 2, 2), 4, "parallel.data=2, parallel.fsdp=2, parallel.tensor=2 .* product must be 4"),
        ((1, 1, 1), 2, "product must be 2"),
        ((-1, 3, 1), 8, "product must be 8"),
        ((-1, 16, 1), 8, "product must be 8"),
        ((-1, -1, 1), 8, "one of them -1 at most"),
        ((0, 1, 1), 8, "at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_one_line(sizes, n, words):
    with pytest.raises(UserError, match=words) as caught:
        axis_sizes(ParallelConfig(*sizes), n)
    assert "\n" not in str(caught.value)


def test_axes_are_auto_for_linen():
    mesh = make_mesh(ParallelConfig(), jax.devices()[:1])
    assert mesh.axis_names == AXES == ("data", "fsdp", "tensor")
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert make_mesh(ParallelConfig()).size == len(jax.devices())


@dataclass(frozen=True)
class Chip:
    """What a mesh asks of a device."""

    id: int
    process_index: int
    slice_index: int = 0
    platform: str = "gpu"
    device_kind: str = "test"


def chips(processes: int, each: int, slices: int = 1, platform: str = "gpu") -> list[Chip]:
    """Devices in an order that says nothing."""
    made = [Chip(p * each + i, p, p * slices // processes, platform) for p in range(processes) for i in range(each)]
    return [made[i] for i in np.random.default_rng(0).permutation(len(made))]


@pytest.mark.parametrize(
    ("preset", "tensor", "expected"),
    [
        ("data", 1, (16, 1, 1)),
        ("fsdp", 1, (1, 16, 1)),
        ("tensor", 1, (8, 1, 2)),
        ("tensor", 4, (4, 1, 4)),
        ("hybrid", 1, (2, 8, 1)),
        ("hybrid", 2, (2, 4, 2)),
    ],
)
def test_presets(preset, tensor, expected):
    assert axis_sizes(ParallelConfig(mesh=preset, tensor=tensor), 16, 2) == expected


def test_hybrid_splits_inside_a_slice_and_copies_across():
    mesh = make_mesh(ParallelConfig(mesh="hybrid", tensor=2), chips(4, 4, slices=2))
    assert mesh.devices.shape == (2, 4, 2)
    for copy in mesh.devices:
        assert len({device.slice_index for device in copy.ravel()}) == 1
    assert [[d.id for d in row] for row in mesh.devices[0]] == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize(("preset", "tensor"), [("data", 1), ("fsdp", 1), ("tensor", 2), ("hybrid", 1), ("hybrid", 4)])
@pytest.mark.parametrize(("processes", "each", "slices"), [(2, 4, 1), (4, 4, 1), (4, 4, 2), (8, 4, 4)])
def test_every_process_reads_its_own_rows_whatever_the_mesh(preset, tensor, processes, each, slices):
    """The (data, fsdp) coordinates of a process's devices say which rows it reads: all of them once, in order."""
    mesh = make_mesh(ParallelConfig(mesh=preset, tensor=tensor), chips(processes, each, slices))
    assert [data_shard(mesh, p) for p in range(processes)] == [(p, processes) for p in range(processes)]


def test_tensor_across_hosts_is_refused():
    with pytest.raises(UserError, match=r"parallel.tensor=8 would go across hosts or slices of 4 devices"):
        make_mesh(ParallelConfig(tensor=8), chips(4, 4))


def test_uneven_hosts_are_one_line():
    with pytest.raises(UserError, match="different numbers of devices"):
        granules_of([*chips(2, 2), Chip(9, 2)])


def test_one_tpu_slice_is_one_granule():
    assert len(granules_of(chips(4, 4, platform="tpu"))) == 1
    assert len(granules_of(chips(4, 4, slices=2, platform="tpu"))) == 2
