"""Fixed two-dimensional sine and cosine positions, as masked autoencoders have them (He et al. 2022, appendix A.1)."""

from __future__ import annotations

import numpy as np

_SLOWEST = 10_000.0


def sincos_2d(width: int, side: int) -> np.ndarray:
    """f32[1 + side * side, width]: row 0, the class token's, is zero; then the patches, row by row.

    The first half of the width tells the column, the second half the row, each as sines and then cosines of
    width / 4 frequencies from 1 down to nearly 1 / 10000 (Vaswani et al. 2017): the layout of the published weights.

    Raises:
      ValueError: the width is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"positions of width {width}: expected a multiple of 4")
    frequencies = _SLOWEST ** -(np.arange(width // 4, dtype=np.float64) / (width / 4))
    angles = np.arange(side, dtype=np.float64)[:, None] * frequencies
    one_way = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    column = np.broadcast_to(one_way[None, :, :], (side, side, width // 2))
    row = np.broadcast_to(one_way[:, None, :], (side, side, width // 2))
    grid = np.concatenate([column, row], axis=2).reshape(side * side, width)
    return np.concatenate([np.zeros((1, width)), grid]).astype(np.float32)
