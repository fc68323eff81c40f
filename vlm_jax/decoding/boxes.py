"""From the shares of places that landmarks cover to their areas and the boxes around them."""

from __future__ import annotations

import numpy as np

from vlm_jax.contract import Box

COVERED = 0.5
"""Share of a place from which on it counts as the landmark's."""


def areas_and_boxes(shares: np.ndarray) -> np.ndarray:
    """f64[C, 5] of shares f32[h, w, C]: the area, and the box around the places that are covered by half or more.

    The area is a share of the image. The box is left, top, right and bottom, shares of the image's sides; nan where no
    place is covered by half.
    """
    height, width = shares.shape[:2]
    covered = shares >= COVERED
    rows, columns = np.any(covered, axis=1), np.any(covered, axis=0)
    left, right = columns.argmax(0) / width, 1 - columns[::-1].argmax(0) / width
    top, bottom = rows.argmax(0) / height, 1 - rows[::-1].argmax(0) / height
    found = np.stack([shares.mean((0, 1), dtype=np.float64), left, top, right, bottom], axis=1)
    found[~rows.any(0), 1:] = np.nan
    return found


def box_of(place: np.ndarray) -> Box | None:
    """The box of one row of `areas_and_boxes`; None where there is none."""
    if np.isnan(place[1]):
        return None
    left, top, right, bottom = place[1:].tolist()
    return left, top, right, bottom
