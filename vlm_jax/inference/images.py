"""Whatever a caller calls an image, as the model's uint8 square."""

from __future__ import annotations

import os
import struct
import threading
from typing import Any

import numpy as np
from PIL import Image

from vlm_jax.config.schema import DataConfig
from vlm_jax.data.transforms import decode_image, resize_image
from vlm_jax.errors import UserError
from vlm_jax.inference.request import Request

_PIL_MODES = ("RGB", "RGBA", "RGBX", "L", "LA", "P", "1")
_LAZY = threading.Lock()
"""Pillow reads an opened file when its pixels are first asked for, and not from two threads at once: a caller may give
one image twice."""


def load_frames(request: Request, data: DataConfig) -> list[np.ndarray]:
    """The request's image and up to `data.frames` - 1 of those before it, the nearest first.

    Raises:
      UserError: one cannot be read, or frames are given to a model that sees only one.
    """
    if request.before and data.frames == 1:
        raise UserError(f"{request.name}: frames before it are given, but the model sees one frame; leave them out")
    nearest = request.before[::-1][: data.frames - 1]
    named = [(image, f"{request.name}, {k} before") for k, image in enumerate(nearest, 1)]
    return [load_image(image, name, data.image_size) for image, name in [(request.image, request.name), *named]]


def load_image(image: Any, name: str, size: int) -> np.ndarray:
    """uint8[size, size, 3], resized as in training.

    Args:
      image: a path, a PIL image of 8 bits a channel, or uint8[H, W, 3], RGB.
      name: what errors call it.

    Raises:
      UserError: missing, damaged, or of another kind; one line.
    """
    if isinstance(image, str | os.PathLike):
        return decode_image(os.fspath(image), size, name)
    if isinstance(image, Image.Image):
        if image.mode not in _PIL_MODES:
            raise UserError(f"{name}: a PIL image of mode {image.mode}; convert it to 8-bit RGB")
        if 0 in image.size:
            raise UserError(f"{name}: an image of {image.width} x {image.height} pixels; give one that shows something")
        try:
            with _LAZY:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError, AssertionError, struct.error):  # Pillow reads the file only now
            raise UserError(
                f"{name}: a truncated or damaged image, or one that was closed; give it open, or copy it again"
            ) from None
        return resize_image(pixels, size)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
            raise UserError(f"{name}: an array {image.dtype}{list(image.shape)}; expected uint8[H, W, 3], RGB")
        return resize_image(image, size)
    raise UserError(f"{name}: a {type(image).__name__}; expected a path, a PIL image or a uint8 array [H, W, 3]")
