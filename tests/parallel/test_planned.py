"""Axes of groups, and gathers that the plan has no place for, on made-up collectives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from vlm_jax.parallel.collectives import Collective
from vlm_jax.parallel.planned import axes_of, unplanned_gathers

MESH = {"data": 2, "fsdp": 2, "tensor": 2}
OVER = {
    "data": ((0, 4), (1, 5), (2, 6), (3, 7)),
    "fsdp": ((0, 2), (1, 3), (4, 6), (5, 7)),
    "tensor": ((0, 1), (2, 3), (4, 5), (6, 7)),
    "data+fsdp": ((0, 2, 4, 6), (1, 3, 5, 7)),
    "data+fsdp+tensor": ((0, 1, 2, 3, 4, 5, 6, 7),),
    "": ((0, 3), (1, 2), (4, 7), (5, 6)),
}


@pytest.mark.parametrize("axes", OVER)
def test_the_axes_that_groups_go_over(axes):
    assert axes_of(OVER[axes], MESH) == axes


def gather(shape, axes="fsdp", times=1, kind="all-gather"):
    return Collective(kind, (("f32", shape),), OVER[axes], times, "jit(step)/dot")


@pytest.fixture
def params():
    mesh = AbstractMesh(tuple(MESH.values()), tuple(MESH), axis_types=(AxisType.Auto,) * 3)

    def leaf(shape, *spec):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))

    return {"up": leaf((8, 6), "fsdp", "tensor"), "out": leaf((10, 4), "tensor", None), "bias": leaf((14,), None)}


def test_a_split_parameter_is_gathered_once_over_fsdp(params):
    planned = [gather((8, 3)), gather((8, 3), kind="reduce-scatter"), gather((14,), "tensor"), gather((5, 5), "tensor")]
    assert unplanned_gathers(planned, params, MESH) == []


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([gather((8, 3)), gather((3, 8))], "f32[3, 8], as large as up, over fsdp, 2 devices, for jit(step)/dot"),
        ([gather((8, 3), times=2)], "as large as up, over fsdp"),
        ([gather((8, 6))], "f32[8, 6], as large as up, over fsdp"),
        ([gather((8, 6), "tensor")], "as large as up, over tensor"),
        ([gather((10, 4), "tensor")], "as large as out, over tensor"),
        ([gather((20, 1))], "as large as out, over fsdp"),
        ([gather((8, 3), "")], "over no axis of the mesh"),
    ],
)
def test_another_gather_is_named(params, found, says):
    [line] = unplanned_gathers(found, params, MESH)
    assert says in line
