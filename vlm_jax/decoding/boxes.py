"""From the shares of places that a landmark covers to its area and the box around it."""

from __future__ import annotations

import numpy as np

from vlm_jax.contract import Box

COVERED = 0.5
"""Share of a place from which on it counts as the landmark's."""


def area_and_box(shares: np.ndarray) -> tuple[float, Box | None]:
    """The area, a share of the image, and the box around the places that are covered by half or more.

    Args:
      shares: f32[h, w], of one landmark.

    Returns:
      The box as (left, top, right, bottom), shares of the image's sides; None where no place is covered by half.
    """
    covered = shares >= COVERED
    rows, columns = (np.flatnonzero(covered.any(axis)) for axis in (1, 0))
    if not len(rows):
        return float(shares.mean()), None
    height, width = shares.shape
    left, right, top, bottom = columns[0] / width, (columns[-1] + 1) / width, rows[0] / height, (rows[-1] + 1) / height
    return float(shares.mean()), (float(left), float(top), float(right), float(bottom))


def areas_and_boxes(shares: np.ndarray) -> list[tuple[float, Box | None]]:
    """`area_and_box` of each landmark, of shares f32[h, w, C]."""
    return [area_and_box(shares[..., c]) for c in range(shares.shape[-1])]
