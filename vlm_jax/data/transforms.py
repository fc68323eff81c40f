"""Image files to uint8 squares, on the host."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from vlm_jax.data.files import machine_fault
from vlm_jax.errors import EnvironmentFault, UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Of the files that are taken for images."""

_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or math.inf)  # what Pillow refuses in other formats; None: nothing
_TOO_MANY = "far too many pixels for an endoscopic image; scale it down"
_MEND = "convert it to 8-bit RGB (JPEG or PNG)"

cv2.setNumThreads(1)  # the pipeline has its own threads; OpenCV's on top of them only fight for the same cores


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is an image."""
    return path.suffix.lower() in SUFFIXES


def decode_image(source: bytes | str | Path, size: int, name: str = "") -> np.ndarray:
    """uint8[size, size, 3], RGB: the image, straight-resized (aspect ratio not kept, as EndoViT does).

    Args:
      source: the file's bytes, or its path.
      size: side in pixels.
      name: what errors call the image; the path, by default.

    Raises:
      UserError: missing, empty, truncated, not an image, CMYK, or more than 8 bits a channel.
    """
    if isinstance(source, bytes):
        name = name or "image"
        data = source
    else:
        name = name or str(source)
        data = _read(source, name)
    return resize_image(decode_pixels(data, name), size)


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """uint8[size, size, 3] from uint8[H, W, 3]: averaged where it shrinks, bilinear where it grows."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return np.ascontiguousarray(image)
    method = cv2.INTER_AREA if min(height, width) >= size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)


def read_mask(data: bytes, name: str) -> np.ndarray:
    """uint8[H, W], the label of each pixel, from the PNG bytes of a frame's mask.

    Raises:
      UserError: not a PNG of one grey value a pixel; begins with `name`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.mode not in ("L", "P", "1"):
                raise UserError(
                    f"{name}: its mask is a {image.mode} image, not one label a pixel; build the data set again"
                )
            return np.asarray(image, np.uint8)
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError, struct.error):
        raise UserError(f"{name}: its mask is damaged; build the data set again") from None


def decode_mask(data: bytes, size: int, name: str) -> np.ndarray:
    """uint8[size, size], the label of the nearest pixel; raises as `read_mask` does."""
    return cv2.resize(read_mask(data, name), (size, size), interpolation=cv2.INTER_NEAREST_EXACT)


_BITS_PER_SAMPLE = 258  # TIFF's tag


def _read(path: str | Path, name: str) -> bytes:
    if "://" in str(path):
        raise UserError(f"{name} is remote; images are read from local disks: copy it first")
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{name}: no such image; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{name}: a folder, where an image was expected") from None
    except ValueError:  # a path with a NUL in it
        raise UserError(f"{name!r}: no path that a disk can hold; check it") from None
    except OSError as error:
        if machine_fault(error):
            raise EnvironmentFault(f"{name}: cannot be read just now ({error.strerror}); try again") from None
        raise UserError(f"{name}: cannot be read ({error.strerror}); check the path and its permissions") from None


def decode_pixels(data: bytes, name: str) -> np.ndarray:
    """uint8[H, W, 3] at the image's own size; what can't be read as 8-bit RGB is a UserError with `name` in it."""
    if not data:
        raise UserError(f"{name}: an empty file; copy the image again")
    return _decode_jpeg(data, name) if data.startswith(_JPEG) else _decode_other(data, name)


def _decode_jpeg(data: bytes, name: str) -> np.ndarray:
    try:
        height, width, colours = simplejpeg.decode_jpeg_header(data)[:3]
        if int(height) * int(width) > _MOST_PIXELS:
            raise UserError(f"{name}: {_TOO_MANY}")
        if colours in ("CMYK", "YCCK"):
            raise UserError(f"{name}: a CMYK image; {_MEND}")
        return simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        reason = str(error).splitlines()[0] if str(error) else "damaged"
        raise UserError(f"{name}: a truncated or damaged JPEG ({reason}); copy or export the image again") from None


def _decode_other(data: bytes, name: str) -> np.ndarray:
    if data.startswith(_PNG) and len(data) > 24 and data[24] == 16:  # Pillow would halve 16-bit RGB without a word
        raise UserError(f"{name}: a 16-bit PNG; {_MEND}")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode == "CMYK":
                raise UserError(f"{name}: a CMYK image; {_MEND}")
            depth = max(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,)))  # of 16 Pillow keeps the high ones
            if image.mode.startswith("I") or image.mode == "F" or depth > 8:
                raise UserError(f"{name}: more than 8 bits a channel ({image.mode}); {_MEND}")
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise UserError(f"{name}: not an image that can be read; give a JPEG or PNG file") from None
    except Image.DecompressionBombError:
        raise UserError(f"{name}: {_TOO_MANY}") from None
    except (OSError, SyntaxError, ValueError, struct.error):  # what Pillow's readers raise on damaged files
        raise UserError(f"{name}: a truncated or damaged image; copy or export the image again") from None


def read_as_jpeg(path: Path) -> tuple[bytes, np.ndarray]:
    """JPEG bytes (a JPEG's own, others re-encoded at 95) and the pixels uint8[H, W, 3]."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"image '{path}' can't be read ({error.strerror}): copy it again") from error
    pixels = decode_pixels(content, f"image '{path}'")
    if not content.startswith(b"\xff\xd8"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
        content = buffer.getvalue()
    return content, pixels
