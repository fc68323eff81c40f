"""What spoils an image, with known strengths, and the last steps from a lit scene to a recorded frame.

Strengths are 0-1. The settings give the mean over activities; each activity draws its own, and it drifts slowly.
Blood, smoke, fog and over-exposure act in the scene (`shade`); blur, droplets, noise and compression act here.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import simplejpeg

from vlm_jax.simulator.centres import Centre

STRENGTHS = ("blood", "smoke", "fog", "blur", "droplets", "over", "noise", "compression")
"""Every nuisance but instruments, in the order of the columns of `draw_strengths`."""
BEFORE_SURGERY = ("blood", "smoke")
"""Rare before the first incision: a seventh of the setting in step 0."""


def draw_strengths(rng: np.random.Generator, means: dict[str, float], frames: int, step: int) -> np.ndarray:
    """f32[frames, 8]: each activity's own strength, gamma-distributed about the setting, drifting by a fifth."""
    columns = []
    for name in STRENGTHS:
        level, phase = rng.gamma(1.5, 1 / 1.5), rng.uniform(0, 2 * math.pi)
        mean = means[name] * (0.15 if step == 0 and name in BEFORE_SURGERY else 1.0)
        columns.append(mean * level * (1 + 0.2 * np.sin(phase + np.arange(frames) * 0.35)))
    return np.clip(np.stack(columns, axis=1), 0, 1).astype(np.float32)


def record(rgb: np.ndarray, strengths: np.ndarray, centre: Centre, rng: np.random.Generator) -> np.ndarray:
    """One frame as the recorder keeps it: rgb f32[H, W, 3] in 0-1 to uint8[H, W, 3]. `strengths` f32[8]."""
    s = dict(zip(STRENGTHS, (float(v) for v in strengths), strict=True))
    scale = rgb.shape[0] / 224
    image = rgb
    sigma = math.hypot(centre.blur, 3.2 * s["blur"]) * scale
    if sigma > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    if s["droplets"] > 0.05:
        image = _droplets(image, s["droplets"], rng)
    spread = centre.noise * (0.25 + 1.5 * s["noise"])
    image = image + np.float32(spread) * rng.standard_normal((*image.shape[:2], 1), dtype=np.float32)
    image = image + np.float32(0.4 * spread) * rng.standard_normal(image.shape, dtype=np.float32)
    pixels = np.ascontiguousarray((image.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    quality = round(centre.quality * (1 - 0.88 * s["compression"]))
    return simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(pixels, max(5, quality), "RGB", "420"), "RGB")


def _droplets(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Drops on the lens: each shows the scene small, upside down and unsharp, with a bright rim."""
    size = image.shape[0]
    out = image.copy()
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    small = cv2.GaussianBlur(image, (0, 0), max(0.3, 2.0 * size / 224))
    for _ in range(1 + int(5 * strength)):
        x, y = rng.uniform(0.15, 0.85, 2) * size
        radius = size * (0.03 + 0.10 * strength * rng.uniform(0.4, 1.0))
        away = np.hypot(columns - x, rows - y) / radius
        mapped = (x - (columns - x) * 1.8).astype(np.float32), (y - (rows - y) * 1.8).astype(np.float32)
        lens = cv2.remap(small, *mapped, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        weight = np.clip((1.0 - away) / 0.2, 0, 1)[..., None].astype(np.float32)
        rim = (0.12 * np.exp(-(((away - 0.9) / 0.12) ** 2)))[..., None].astype(np.float32)
        out = out * (1 - weight) + (0.85 * lens + 0.08) * weight + rim
    return out.astype(np.float32)
