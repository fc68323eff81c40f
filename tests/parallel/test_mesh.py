"""Meshes: sizes that multiply to the devices, or one line that says so."""

from __future__ import annotations

import jax
import pytest
from jax.sharding import AxisType

from vlm_jax.config.schema import ParallelConfig
from vlm_jax.errors import UserError
from vlm_jax.parallel.mesh import AXES, axis_sizes, make_mesh


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
