"""Position embeddings of a vision transformer for another image size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vlm_jax.errors import UserError

_CUBIC = -0.75  # torch's coefficient of the cubic convolution kernel (Keys 1981 has -0.5)


def resize_positions(table: np.ndarray, grid: int, class_tokens: int = 1) -> np.ndarray:
    """[c + g g, D] -> [c + grid grid, D]: rows of class tokens as they are, the square grid interpolated bicubically.

    Equals torch's `interpolate(mode="bicubic", align_corners=False, antialias=False)`, which Hugging Face's
    `interpolate_pos_encoding` and MAE use. timm antialiases, for which torch takes Keys' coefficient and a wider kernel
    where the grid shrinks: not the same figures.

    Raises:
      ValueError: the rows do not form a square grid.
    """
    old = math.isqrt(table.shape[0] - class_tokens)
    if old * old != table.shape[0] - class_tokens:
        raise ValueError(f"{table.shape[0]} positions are not {class_tokens} and a square number")
    if old == grid:
        return table
    tokens, square = table[:class_tokens], table[class_tokens:].reshape(old, old, -1)
    matrix = _bicubic(old, grid)
    resized = np.einsum("ai,bj,ijd->abd", matrix, matrix, square.astype(np.float64), optimize=True)
    return np.concatenate([tokens, resized.reshape(grid * grid, -1).astype(table.dtype)])


def _bicubic(old: int, new: int) -> np.ndarray:
    """float64[new, old]: weights of the samples `old` in each of `new`, pixel centres, edges repeated."""
    matrix = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) * old / new - 0.5
        start = math.floor(centre)
        for j in range(start - 1, start + 3):
            matrix[i, min(max(j, 0), old - 1)] += _kernel(abs(centre - j))
    return matrix


def _kernel(x: float) -> float:
    a = _CUBIC
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def resize_params(
    params: dict[str, Any], config: dict[str, Any], image_size: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """An imported image encoder, {"image_encoder": ...}, and its config fragment for images of another size.

    Raises:
      UserError: it is no vision transformer, or the patches do not divide the size.
    """
    if "patch" not in config or "image_encoder" not in params:
        raise UserError(f"image size {image_size}: only a vision transformer has such positions; leave it out")
    if image_size < 1 or image_size % config["patch"]:
        raise UserError(f"image size {image_size} must be a multiple of the patch, {config['patch']}")
    encoder = params["image_encoder"]
    table = resize_positions(encoder["position_embedding"], image_size // config["patch"])
    return {"image_encoder": {**encoder, "position_embedding": table}}, {**config, "image_size": image_size}
