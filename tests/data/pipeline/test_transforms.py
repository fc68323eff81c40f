"""Decoding: what is right is resized, what is wrong is named in one line."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vlm_jax.data import transforms
from vlm_jax.data.transforms import decode_image, resize_image
from vlm_jax.errors import UserError

RAMP = 3 * np.stack([*np.meshgrid(np.arange(48), np.arange(32)), np.full((32, 48), 77)], axis=-1).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb_png_16() -> bytes:
    """A 16-bit RGB PNG, which Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x12\x34" * 6) * 2)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


RGB = Image.fromarray(RAMP)
JPEG = encoded(RGB, "JPEG", quality=95)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_images_become_squares(kind, tmp_path):
    data = encoded(RGB, kind)
    image = decode_image(data, 16)
    assert image.shape == (16, 16, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - resize_image(RAMP, 16)).mean() < 8
    path = tmp_path / "image"
    path.write_bytes(data)
    assert (decode_image(path, 16) == image).all() and (decode_image(str(path), 16) == image).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_other_modes_become_rgb(mode):
    assert decode_image(encoded(RGB.convert(mode), "PNG"), 8).shape == (8, 8, 3)


def test_grey_jpeg():
    grey = decode_image(encoded(RGB.convert("L"), "JPEG"), 8)
    assert (grey[..., 0] == grey[..., 2]).all()


def test_channels_are_in_the_order_red_green_blue():
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 200
    for kind in ("JPEG", "PNG"):
        assert decode_image(encoded(Image.fromarray(red), kind), 4)[0, 0].argmax() == 0


def test_shrinking_averages_and_the_aspect_ratio_is_not_kept():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, ::2] = 100
    assert (resize_image(image, 4) == 50).all()
    assert resize_image(image[:2, :2], 6).shape == (6, 6, 3)
    assert (resize_image(image[:, :4], 4) == image[:, :4]).all()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (JPEG[: len(JPEG) // 2], "truncated or damaged JPEG"),
        (JPEG[:3], "truncated or damaged JPEG"),
        (encoded(RGB.convert("CMYK"), "JPEG"), "a CMYK image; convert it to 8-bit RGB"),
        (encoded(RGB.convert("CMYK"), "TIFF"), "a CMYK image; convert it to 8-bit RGB"),
        (encoded(Image.fromarray(np.full((4, 4), 999, np.uint16)), "PNG"), "a 16-bit PNG; convert it to 8-bit RGB"),
        (rgb_png_16(), "a 16-bit PNG"),
        (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "more than 8 bits a channel"),
        (encoded(RGB, "PNG")[:-40], "truncated or damaged image"),
        (b"hello, this is text", "not an image that can be read"),
        (b"", "an empty file"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(data, says):
    with pytest.raises(UserError, match=says) as caught:
        decode_image(data, 8, "frame.png")
    assert str(caught.value).startswith("frame.png: ") and "\n" not in str(caught.value)


def test_too_many_pixels(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UserError, match="far too many pixels"):
        decode_image(encoded(RGB, "PNG"), 8)
    monkeypatch.setattr(transforms, "_MOST_PIXELS", 10)
    with pytest.raises(UserError, match=r"^frame.jpg: far too many pixels"):
        decode_image(encoded(RGB, "JPEG"), 8, "frame.jpg")


def test_paths_that_are_wrong(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such image"):
        decode_image(tmp_path / "none.png", 8)
    with pytest.raises(UserError, match="a folder"):
        decode_image(tmp_path, 8)

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(UserError, match="cannot be read .Permission denied."):
        decode_image("x.png", 8)
