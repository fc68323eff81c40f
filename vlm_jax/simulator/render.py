"""The plain renderer: `render(scene, camera) -> rgb, id_mask`, landmarks as shaded shapes in one plane a view.

It is vectorised numpy and knows nothing of surgery; a scene is a list of shapes. Its ids, not its colours, are the
truth of the labels: `visibility` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vlm_jax.simulator import anatomy
from vlm_jax.simulator.findings import RGB

MASK_SIZE = 64
"""Side of the id masks that labels are read from, whatever the image size: so labels don't depend on it."""
MIN_AREA = 40 / 224**2
"""A visible landmark covers at least 40 pixels of a 224-pixel image ..."""
MIN_SHARE = 0.25
"""... and at least a quarter of its projection into the field of view as it would be with nothing in front of it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """An ellipse (or crescent) at (x lateral, y up); `id` is the landmark's number."""

    id: int
    x: float
    y: float
    rx: float
    ry: float
    depth: float
    turn: float
    colour: RGB
    kind: str
    mark: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """What stands before the endoscope: side, shapes, colour of the mucosa and a phase for its texture."""

    side: str
    shapes: tuple[Shape, ...]
    mucosa: RGB = (0.70, 0.45, 0.42)
    phase: float = 0.0


@dataclass(frozen=True, slots=True)
class Camera:
    """An endoscope: image size in pixels, where it looks (lateral, up), zoom, roll in radians, scope angle in degrees.

    `tint`, `border` (radius of the field of view), `noise` and `light` belong to the centre; `seed` seeds the noise.
    """

    size: int
    pan: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    roll: float = 0.0
    scope: int = 0
    tint: RGB = (1.0, 1.0, 1.0)
    border: float = 0.95
    noise: float = 0.02
    light: float = 1.0
    seed: tuple[int, ...] = (0,)


def _plane(scene: Scene, cameras: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lateral, up, squared distance from the image's centre), each f32[F, H, W] (the last [1, H, W])."""
    size = cameras[0].size
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    right, up = axis[None, None, :], -axis[None, :, None]
    poses = [
        (math.cos(c.roll) / c.zoom, math.sin(c.roll) / c.zoom, c.pan[0] + 0.15 * c.scope / 70, c.pan[1])
        for c in cameras
    ]
    cos, sin, across, along = np.array(poses, np.float32).T[:, :, None, None]
    # On the patient's left side medial is image left; the right side is its mirror image.
    mirror = np.float32(1.0 if scene.side == "left" else -1.0)
    lateral = mirror * (cos * right - sin * up) + across
    upward = sin * right + cos * up + along
    return lateral, upward, right**2 + up**2


def _inside(shape: Shape, lateral: np.ndarray, upward: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mask, p, q): where the shape is, and its own coordinates in its own radii."""
    cos, sin = math.cos(math.radians(shape.turn)), math.sin(math.radians(shape.turn))
    dx, dy = lateral - np.float32(shape.x), upward - np.float32(shape.y)
    p = dx * np.float32(cos / shape.rx) + dy * np.float32(sin / shape.rx)
    q = dy * np.float32(cos / shape.ry) - dx * np.float32(sin / shape.ry)
    inside = p * p + q * q < 1
    if shape.kind == "crescent":
        inside &= (p - 0.9) ** 2 + q * q > 0.65
    return inside, p, q


def project(scene: Scene, cameras: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray]:
    """Id masks of several cameras of one size, without colours.

    Returns:
      ids uint8[F, H, W] (landmark number, 0 elsewhere) and unoccluded int64[F, 21]: pixels of the field of view that
      each landmark would cover with nothing in front of it.
    """
    lateral, upward, radius = _plane(scene, cameras)
    border = np.array([c.border for c in cameras], np.float32)[:, None, None]
    field = radius < border**2
    ids = np.zeros(lateral.shape, np.uint8)
    boxes = _boxes(scene, cameras)
    unoccluded = np.zeros((len(cameras), len(anatomy.LANDMARKS) + 1), np.int64)
    for shape in _far_to_near(scene):
        box = (slice(None), *boxes[shape])
        inside = _inside(shape, lateral[box], upward[box])[0] & field[box]
        ids[box][inside] = shape.id
        if not shape.mark:
            unoccluded[:, shape.id] += inside.sum(axis=(1, 2))
    return ids, unoccluded


def _boxes(scene: Scene, cameras: Sequence[Camera]) -> dict[Shape, tuple[slice, slice]]:
    """Rows and columns outside of which a shape is in none of the cameras' images: work is done inside alone."""
    size = cameras[0].size
    pose = np.array([(c.pan[0] + 0.15 * c.scope / 70, c.pan[1], c.zoom, c.roll) for c in cameras])
    cos, sin = np.cos(pose[:, 3]) * pose[:, 2], np.sin(pose[:, 3]) * pose[:, 2]
    mirror = 1 if scene.side == "left" else -1
    boxes = {}
    for shape in scene.shapes:
        x, y = mirror * (shape.x - pose[:, 0]), shape.y - pose[:, 1]
        right, up = cos * x + sin * y, cos * y - sin * x
        angle = math.radians(shape.turn) - pose[:, 3] * mirror  # against the image's axes
        wide = pose[:, 2] * np.hypot(shape.rx * np.cos(angle), shape.ry * np.sin(angle))
        high = pose[:, 2] * np.hypot(shape.rx * np.sin(angle), shape.ry * np.cos(angle))
        columns, rows = ((right - wide).min(), (right + wide).max()), ((-up - high).min(), (-up + high).max())
        boxes[shape] = (_span(rows, size), _span(columns, size))
    return boxes


def _span(ends: tuple[float, float], size: int) -> slice:
    low, high = (max(0.0, min(size, (end + 1) * size / 2)) for end in ends)
    return slice(int(low), math.ceil(high))


def _far_to_near(scene: Scene) -> list[Shape]:
    return sorted(scene.shapes, key=lambda s: -s.depth)


@dataclass(frozen=True, slots=True)
class Sight:
    """What F frames show of each landmark: visible bool[F, 20], fractions f32[F, 20] of the image's area, share
    f32[F, 20] of its unoccluded projection, clock position centres f32[F, 20, 2] (right, up; radii; nan if unseen)."""

    visible: np.ndarray
    fractions: np.ndarray
    share: np.ndarray
    centres: np.ndarray


def visibility(scene: Scene, cameras: Sequence[Camera]) -> Sight:
    """Truth of the frames of one scene, read from id masks of MASK_SIZE pixels."""
    ids, unoccluded = project(scene, [replace(c, size=MASK_SIZE) for c in cameras])
    frames, count = len(cameras), len(anatomy.LANDMARKS) + 1
    keys = (ids.reshape(frames, -1).astype(np.int64) + count * np.arange(frames)[:, None]).ravel()
    axis = (np.arange(MASK_SIZE) + 0.5) * (2 / MASK_SIZE) - 1
    right, up = np.meshgrid(axis, -axis)

    def total(weights: np.ndarray) -> np.ndarray:
        sums = np.bincount(keys, np.tile(weights.ravel(), frames), minlength=frames * count)
        return sums.reshape(frames, count)[:, 1:]

    pixels = total(np.ones_like(right))
    fractions = (pixels / MASK_SIZE**2).astype(np.float32)
    share = (pixels / np.maximum(unoccluded[:, 1:], 1)).clip(0, 1).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        centres = np.stack([total(right) / pixels, total(up) / pixels], axis=-1).astype(np.float32)
    return Sight((fractions >= MIN_AREA) & (share >= MIN_SHARE), fractions, share, centres)


def render(scene: Scene, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """One frame: rgb uint8[H, W, 3] and id_mask uint8[H, W] (landmark number, 0 elsewhere)."""
    lateral, upward, radius = (a[0] for a in _plane(scene, [camera]))
    size = camera.size
    ripple = 1 + 0.10 * np.sin(5 * lateral + scene.phase) * np.sin(4 * upward + 2 * scene.phase)
    rgb = ripple[..., None] * np.array(scene.mucosa, np.float32)
    ids = np.zeros((size, size), np.uint8)
    field = radius < camera.border**2
    boxes = _boxes(scene, [camera])
    for shape in _far_to_near(scene):
        box = boxes[shape]
        inside, p, q = _inside(shape, lateral[box], upward[box])
        rgb[box][inside] = _shade(shape.kind, p[inside], q[inside])[:, None] * np.array(shape.colour, np.float32)
        ids[box][inside & field[box]] = shape.id
    rgb *= ((1.12 - 0.5 * radius) * np.float32(camera.light))[..., None] * np.array(camera.tint, np.float32)
    rng = np.random.Generator(np.random.SFC64(camera.seed))
    rgb += np.float32(camera.noise) * rng.standard_normal((size, size, 1), dtype=np.float32)
    rgb[~field] = 0.015
    return (rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8), ids


def _shade(kind: str, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Brightness f32[n] at a shape's own coordinates: what makes a bulge, a hole, a wall, cells or a vessel."""
    r = p * p + q * q
    rim = np.where(r > 0.8, np.float32(0.8), np.float32(1.0))
    if kind == "hole":
        return np.float32(0.25) + r * r
    if kind == "cells":
        return rim * (np.float32(0.8) + 0.3 * np.cos(8 * p) * np.cos(8 * q))
    if kind == "wall":
        return rim * (np.float32(0.9) + 0.15 * np.cos(10 * q))
    if kind == "vessel":
        return np.float32(1.1) - 0.5 * q * q
    gleam = 0.35 * np.exp(-14 * ((p + 0.25) ** 2 + (q - 0.35) ** 2))
    return rim * (np.float32(1.08) - 0.38 * r) + gleam
