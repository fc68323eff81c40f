"""The one primitive of the anatomy: a rounded box. Plates, conchae, cells, openings and sinuses are all of this form.

Coordinates are millimetres of one side of the nose: x lateral from the midline, y up, z back from the nostril.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

RGB = tuple[float, float, float]
Vector = tuple[float, float, float]

WIDTH = 16
"""Numbers a packed block takes: centre (3), rows of its rotation (9), half extents (3), radius (1)."""
NOWHERE = -1e4
"""Radius of a block that is not there: its distance is huge everywhere."""


@dataclass(frozen=True, slots=True)
class Block:
    """A box with half extents `half`, grown by `radius`, turned by `turn` degrees about x, then y, then z.

    Its signed distance is exact: q = |R(p - centre)| - half, |max(q, 0)| + min(max(q), 0) - radius (mm).

    Attributes:
      landmark: number in the landmark table; 0 is anything else.
      colour: reflectance 0-1 of its surface.
    """

    name: str
    landmark: int
    centre: Vector
    half: Vector
    radius: float
    turn: Vector = (0.0, 0.0, 0.0)
    colour: RGB = (0.80, 0.50, 0.47)

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Block:
        """The same block elsewhere (mm)."""
        cx, cy, cz = self.centre
        return replace(self, centre=(cx + x, cy + y, cz + z))

    def scaled(self, x: float = 1.0, y: float = 1.0, z: float = 1.0, radius: float = 1.0) -> Block:
        """The same block with other half extents and radius."""
        hx, hy, hz = self.half
        return replace(self, half=(hx * x, hy * y, hz * z), radius=self.radius * radius)


def rotation(turn: Vector) -> np.ndarray:
    """f64[3, 3], world to block."""
    a, b, c = np.radians(turn)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return (rz @ ry @ rx).T


def pack(blocks: Sequence[Block], slots: int) -> np.ndarray:
    """f32[slots, WIDTH]; the rest of the slots hold blocks that are nowhere.

    Raises:
      ValueError: if there are more blocks than slots.
    """
    if len(blocks) > slots:
        raise ValueError(f"{len(blocks)} blocks in {slots} slots: raise the number of slots in field.py")
    packed = np.zeros((slots, WIDTH), np.float32)
    packed[:, 15] = NOWHERE
    for row, block in zip(packed, blocks, strict=False):
        row[:3], row[3:12], row[12:15], row[15] = block.centre, rotation(block.turn).ravel(), block.half, block.radius
    return packed


def distance(block: Block, points: np.ndarray) -> np.ndarray:
    """Signed distance of points f64[..., 3] from one block, on the host in float64: for placing, and as an oracle."""
    q = np.abs((points - np.array(block.centre)) @ rotation(block.turn).T) - np.array(block.half)
    outside = np.linalg.norm(np.maximum(q, 0), axis=-1)
    return outside + np.minimum(q.max(axis=-1), 0) - block.radius
