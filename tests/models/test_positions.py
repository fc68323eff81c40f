"""Fixed positions against MAE's published formula, written out one entry at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vlm_jax.models.positions import sincos_2d


def published(width: int, x: int, y: int) -> list[float]:
    """He et al.'s appendix code in scalars: the first half is of the column (their grid has w first)."""
    values = []
    for position in (x, y):
        omegas = [1.0 / 10000 ** (i / (width / 4)) for i in range(width // 4)]
        values += [math.sin(position * o) for o in omegas] + [math.cos(position * o) for o in omegas]
    return values


@pytest.mark.parametrize(("width", "grid"), [(8, 3), (24, 5), (768, 14)])
def test_table_is_mae_s(width, grid):
    table = sincos_2d(width, grid)
    expected = [published(width, i % grid, i // grid) for i in range(grid * grid)]
    assert table.dtype == np.float32
    assert table.shape == (1 + grid * grid, width)
    assert not table[0].any()
    np.testing.assert_allclose(table[1:], expected, atol=1e-6)


def test_odd_width_is_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_2d(10, 2)
