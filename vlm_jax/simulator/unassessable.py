"""Frames that show no anatomy: what the camera sees outside of the nose, or through fog or blood."""

from __future__ import annotations

import numpy as np

from vlm_jax.simulator.scene import CENTRES

_TONES: dict[str, tuple[tuple[float, float, float], float]] = {
    "withdrawal": ((0.55, 0.30, 0.26), 0.35),
    "cleaning": ((0.80, 0.80, 0.78), 0.10),
    "out_of_body": ((0.25, 0.42, 0.50), 0.25),
    "fogged": ((0.72, 0.62, 0.60), 0.08),
    "blood": ((0.40, 0.03, 0.03), 0.12),
}
"""Kind -> (colour, contrast of its soft blobs)."""


def render_unassessable(kind: str, size: int, centre: int, seed: tuple[int, ...]) -> np.ndarray:
    """One frame of that kind (see `interludes.KINDS`).

    Args:
      size: pixels, square.
      centre: 0-4, whose colour and field of view it has.
      seed: of everything that is drawn.

    Returns:
      rgb uint8[H, W, 3].
    """
    rng = np.random.Generator(np.random.SFC64(seed))
    look, (colour, contrast) = CENTRES[centre], _TONES[kind]
    axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size) - 1
    right, up = axis[None, :], -axis[:, None]
    light = np.ones((size, size), np.float32)
    for _ in range(6):
        x, y, width = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.25, 0.7)
        blob = np.exp(-((right - np.float32(x)) ** 2 + (up - np.float32(y)) ** 2) / np.float32(2 * width**2))
        light += np.float32(contrast * rng.normal()) * blob
    radius = right**2 + up**2
    rgb = (light * (np.float32(1.1) - np.float32(0.4) * radius))[..., None] * np.array(colour, np.float32)
    rgb = rgb * np.array(look["tint"], np.float32) * np.float32(look["light"])
    rgb += np.float32(look["noise"]) * rng.standard_normal((size, size, 1), dtype=np.float32)
    rgb[radius >= look["border"] ** 2] = 0.015
    return (rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8)
