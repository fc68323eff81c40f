"""Frames that show no anatomy: what the camera sees outside of the nose, or through fog or blood."""

from __future__ import annotations

import numpy as np

from vlm_jax.simulator import nuisance
from vlm_jax.simulator.centres import CENTRES

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
    radius = np.sqrt(right**2 + up**2)
    rgb = (light * (np.float32(1.1) - np.float32(0.4) * radius**2))[..., None] * np.array(colour, np.float32)
    rgb = rgb * np.array(look.tint, np.float32)
    inside = np.clip((look.border - radius) / look.softness, 0, 1).astype(np.float32)[..., None]
    strengths = np.zeros(len(nuisance.STRENGTHS), np.float32)
    return nuisance.record(rgb * inside + np.float32(0.012) * (1 - inside), strengths, look, rng)
