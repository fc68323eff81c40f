"""Augmentation: what each one does to the image, and what it must do to the text.

A flip swaps left and right, so it happens on the host, together with every text and every sided label of the record.
All else leaves the texts true (descriptions name clock positions, hours are 30 degrees apart) and runs on the device.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.config.schema import AugmentConfig
from vlm_jax.contract import Record
from vlm_jax.errors import UserError
from vlm_jax.text.normalise import mirror

MAX_ROTATE = 10.0
"""Degrees; beyond it a description's clock position would no longer be true."""


@dataclass(frozen=True)
class Augmentation:
    """One key of `config.augment`: where it runs and its effect on the record's texts and sided labels."""

    name: str
    where: Literal["host", "device"]
    text: Literal["unchanged", "mirrored", "removed"]
    why: str


AUGMENTATIONS: tuple[Augmentation, ...] = (
    Augmentation("flip", "host", "mirrored", "left and right, and clock positions, swap with the image"),
    Augmentation("rotate", "device", "unchanged", "at most 10 degrees, a third of an hour on the clock face"),
    Augmentation("scale", "device", "unchanged", "zoom about the centre keeps every direction"),
    Augmentation("translate", "device", "unchanged", "a small shift keeps the order of structures"),
    Augmentation("crop", "device", "unchanged", "refused beside texts and labels: what they name may be cut off"),
    Augmentation("brightness", "device", "unchanged", "texts name no brightness"),
    Augmentation("contrast", "device", "unchanged", "texts name no contrast"),
    Augmentation("saturation", "device", "unchanged", "texts name no colour"),
    Augmentation("hue", "device", "unchanged", "texts name no colour"),
    Augmentation(
        "drop_text", "host", "removed", "the context becomes the null token, if there is an image; targets stay"
    ),
    Augmentation("drop_image", "host", "unchanged", "the image becomes the null embedding; texts stay"),
)
"""One row for each key of `config.augment`; a test holds the table and the schema together."""


# --- Host: the flip --------------------------------------------------------------------------------------------------


def mirror_record(record: Record) -> Record:
    """The record of the mirrored frame, all of its texts mirrored; image and labels are the collator's business."""
    names = ("previous", "description", "next_description", "keyword", "context", "report_sentence")
    texts = {name: _mirror(getattr(record, name)) for name in names}
    return dataclasses.replace(record, **texts, references=tuple(mirror(r) for r in record.references))


def _mirror(text: str | None) -> str | None:
    return None if text is None else mirror(text)


def mirror_columns(names: tuple[str, ...]) -> np.ndarray:
    """int[C]: the label that column c of a mirrored frame takes its value from.

    Itself for a name without a side, the other side's for a sided name, -1 (not known) where that one is missing.
    """
    place = {name: i for i, name in enumerate(names)}
    return np.array([place.get(mirror(name), -1) for name in names], dtype=np.int64).reshape(len(names))


# --- Device: geometry and colour --------------------------------------------------------------------------------------


def augment(key: jax.Array, images: jax.Array, config: AugmentConfig) -> jax.Array:
    """Turns, zooms, shifts and recolours each example; the F frames of one example alike. Jit-able.

    Args:
      key: one PRNG key; equal keys give equal images on any mesh.
      images: uint8[B, F, H, W, 3].
      config: amounts; 0 leaves that one out, all 0 returns `images` itself.

    Returns:
      uint8[B, F, H, W, 3]; what comes in from outside the image repeats its edge.
    """
    if config.rotate > MAX_ROTATE:
        raise UserError(f"augment.rotate={config.rotate}: at most {MAX_ROTATE:g}, for texts name clock positions")
    geometry = bool(config.rotate or config.scale or config.translate)
    colour = bool(config.brightness or config.contrast or config.saturation or config.hue)
    draws = jax.random.uniform(key, (images.shape[0], 8), minval=-1.0, maxval=1.0)
    if config.crop:
        images = _crop(jax.random.fold_in(key, 1), images, config.crop)
    if geometry:
        images = _warp(images, draws[:, :4], config)
    if colour:
        images = _recolour(images, draws[:, 4:], config)
    return images


def augment_regions(key: jax.Array, regions: jax.Array, config: AugmentConfig) -> jax.Array:
    """uint8[B, H, W], `Batch.regions`, turned, zoomed and shifted as `augment` does the images with the same key.

    Each pixel takes the nearest one's landmark; what comes in from outside repeats the edge, as in the images.
    """
    if not (config.rotate or config.scale or config.translate):
        return regions
    draws = jax.random.uniform(key, (regions.shape[0], 8), minval=-1.0, maxval=1.0)
    x, y = _sources(regions.shape[1:], draws[:, :4], config)
    b, height, width = regions.shape
    place = jnp.round(y).astype(jnp.int32) * width + jnp.round(x).astype(jnp.int32)
    found = jnp.take_along_axis(regions.reshape(b, -1), place.reshape(b, -1), axis=1, mode="clip")
    return found.reshape(regions.shape)


def _crop(key: jax.Array, images: jax.Array, least: float) -> jax.Array:
    """Random resized crop (Szegedy et al. 2015): a box of `least` to 1 of the area and 3/4 to 4/3 wide, made full size.

    A box that would be wider or higher than the image is as wide or high as it. Bilinear, where MAE's is bicubic.
    """
    _, _, height, width, _ = images.shape
    draws = jax.random.uniform(key, (images.shape[0], 4))
    area, ratio = least + (1 - least) * draws[:, 0], jnp.exp(jnp.log(4 / 3) * (2 * draws[:, 1] - 1))
    across, down = jnp.minimum(jnp.sqrt(area * ratio), 1.0), jnp.minimum(jnp.sqrt(area / ratio), 1.0)

    def source(share: jax.Array, place: jax.Array, size: int) -> jax.Array:
        """f32[B, size]: where each pixel of a side comes from."""
        start = place * (1 - share) * size
        found = start[:, None] + (jnp.arange(size) + 0.5) * share[:, None] - 0.5
        return jnp.clip(found, 0, size - 1)

    x, y = source(across, draws[:, 2], width)[:, None, :], source(down, draws[:, 3], height)[:, :, None]
    shape = (images.shape[0], height, width)
    return _sample(images, jnp.broadcast_to(x, shape), jnp.broadcast_to(y, shape))


def _warp(images: jax.Array, draws: jax.Array, config: AugmentConfig) -> jax.Array:
    """Bilinear gather from rotated, scaled, shifted coordinates; draws f32[B, 4] in [-1, 1]."""
    return _sample(images, *_sources(images.shape[2:4], draws, config))


def _sources(size: tuple[int, ...], draws: jax.Array, config: AugmentConfig) -> tuple[jax.Array, jax.Array]:
    """Columns and rows, f32[B, H, W] inside an image of `size` (H, W), that each pixel comes from."""
    height, width = size
    angle = draws[:, 0] * np.deg2rad(config.rotate)
    zoom = 1.0 / (1.0 + draws[:, 1] * config.scale)
    cosine, sine = (zoom * jnp.cos(angle))[:, None, None], (zoom * jnp.sin(angle))[:, None, None]
    shift_x, shift_y = draws[:, 2] * config.translate * width, draws[:, 3] * config.translate * height
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    x = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2
    source_x = cosine * x - sine * y + (width - 1) / 2 + shift_x[:, None, None]
    source_y = sine * x + cosine * y + (height - 1) / 2 + shift_y[:, None, None]
    return jnp.clip(source_x, 0, width - 1), jnp.clip(source_y, 0, height - 1)


def _sample(images: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """uint8[B, F, H, W, 3] read at columns x and rows y, f32[B, H, W] inside the image."""
    left, top = jnp.floor(x), jnp.floor(y)
    return jax.vmap(_bilinear)(images, left, top, x - left, y - top)


def _bilinear(frames: jax.Array, left: jax.Array, top: jax.Array, right_share: jax.Array, low_share: jax.Array):
    """uint8[F, H, W, 3] sampled at (top + low_share, left + right_share), each f32[H, W]."""
    _, height, width, _ = frames.shape
    packed = _pack(frames)  # one gather a pixel instead of three: several times faster on CPU
    x0, y0 = left.astype(jnp.int32), top.astype(jnp.int32)
    x1, y1 = jnp.minimum(x0 + 1, width - 1), jnp.minimum(y0 + 1, height - 1)
    flat = packed.reshape(frames.shape[0], height * width)

    def corner(row: jax.Array, column: jax.Array) -> jax.Array:
        return _unpack(jnp.take(flat, row * width + column, axis=1, mode="clip"))

    right_share, low_share = right_share[None, ..., None], low_share[None, ..., None]
    upper = corner(y0, x0) * (1 - right_share) + corner(y0, x1) * right_share
    lower = corner(y1, x0) * (1 - right_share) + corner(y1, x1) * right_share
    return _to_uint8(upper * (1 - low_share) + lower * low_share)


def _pack(frames: jax.Array) -> jax.Array:
    wide = frames.astype(jnp.int32)
    return wide[..., 0] | (wide[..., 1] << 8) | (wide[..., 2] << 16)


def _unpack(packed: jax.Array) -> jax.Array:
    return jnp.stack([packed & 255, (packed >> 8) & 255, packed >> 16], axis=-1).astype(jnp.float32)


def _to_uint8(values: jax.Array) -> jax.Array:
    return jnp.clip(jnp.round(values), 0, 255).astype(jnp.uint8)


_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_TO_YIQ = np.array([_LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float32)
_FROM_YIQ = np.linalg.inv(_TO_YIQ).astype(np.float32)


def _recolour(images: jax.Array, draws: jax.Array, config: AugmentConfig) -> jax.Array:
    """One linear map of RGB an example: brightness, contrast about its mean grey, saturation, hue (turned in YIQ)."""
    bright = 1 + draws[:, 0] * config.brightness
    contrast = 1 + draws[:, 1] * config.contrast
    saturation = 1 + draws[:, 2] * config.saturation
    turn = draws[:, 3] * config.hue * 2 * np.pi
    zero, one = jnp.zeros_like(turn), jnp.ones_like(turn)
    cosine, sine = saturation * jnp.cos(turn), saturation * jnp.sin(turn)
    rows = [[one, zero, zero], [zero, cosine, -sine], [zero, sine, cosine]]
    chroma = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    matrix = (bright * contrast)[:, None, None] * (_FROM_YIQ @ chroma @ _TO_YIQ)
    values = images.astype(jnp.float32)
    # Of the first alone: where a frame before it is not known, zeros stand, which are no part of the scene.
    grey = (values[:, 0].mean(axis=(1, 2)) @ _LUMA) * bright * (1 - contrast)
    # Three products a channel, written out: XLA on CPU is slow at matrix products of width 3.
    channels = [sum(values[..., j] * matrix[:, i, j, None, None, None] for j in range(3)) for i in range(3)]
    return _to_uint8(jnp.stack(channels, axis=-1) + grey[:, None, None, None, None])
