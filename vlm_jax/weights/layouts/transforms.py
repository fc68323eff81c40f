"""How arrays are turned into our shapes. torch's linear layers are [out, in], ours [in, out] or [in, heads, width]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Config = Mapping[str, Any]


def expect(array: np.ndarray, shape: tuple[int, ...]) -> None:
    """ValueError where the array has another shape."""
    if array.shape != shape:
        hint = "; it looks transposed" if array.ndim == 2 and array.shape[::-1] == shape else ""
        raise ValueError(f"shape {list(array.shape)}, expected {list(shape)}{hint}")


def linear(array: np.ndarray, config: Config) -> np.ndarray:
    """[out, in] -> [in, out]."""
    del config
    if array.ndim != 2:
        raise ValueError(f"shape {list(array.shape)}, expected a matrix")
    return array.T


def first(array: np.ndarray, config: Config) -> np.ndarray:
    """[1, ...] -> [...]."""
    del config
    if array.ndim < 1 or array.shape[0] != 1:
        raise ValueError(f"shape {list(array.shape)}, expected 1 in front")
    return array[0]


def class_token(array: np.ndarray, config: Config) -> np.ndarray:
    """[1, 1, D] -> [D]."""
    expect(array, (1, 1, config["width"]))
    return array[0, 0]


def heads_kernel(array: np.ndarray, config: Config) -> np.ndarray:
    """[D, D] of a query, key or value -> [D, N, H]."""
    width, heads = config["width"], config["heads"]
    expect(array, (width, width))
    return array.T.reshape(width, heads, width // heads)


def heads_bias(array: np.ndarray, config: Config) -> np.ndarray:
    """[D] -> [N, H]."""
    width, heads = config["width"], config["heads"]
    expect(array, (width,))
    return array.reshape(heads, width // heads)


def out_kernel(array: np.ndarray, config: Config) -> np.ndarray:
    """[D, D] behind the attention -> [N, H, D]."""
    width, heads = config["width"], config["heads"]
    expect(array, (width, width))
    return array.T.reshape(heads, width // heads, width)


def fused_kernels(array: np.ndarray, config: Config) -> tuple[np.ndarray, ...]:
    """[3 D, D], query, key and value one below the other -> three [D, N, H]."""
    width = config["width"]
    expect(array, (3 * width, width))
    return tuple(heads_kernel(part, config) for part in np.split(array, 3))


def fused_biases(array: np.ndarray, config: Config) -> tuple[np.ndarray, ...]:
    """[3 D] -> three [N, H]."""
    expect(array, (3 * config["width"],))
    return tuple(heads_bias(part, config) for part in np.split(array, 3))


def patch_kernel(array: np.ndarray, config: Config) -> np.ndarray:
    """A convolution [D, 3, p, p] of stride p -> a product with patches as (row, column, channel), [p p 3, D]."""
    width, patch = config["width"], config["patch"]
    expect(array, (width, 3, patch, patch))
    return array.transpose(2, 3, 1, 0).reshape(patch * patch * 3, width)
