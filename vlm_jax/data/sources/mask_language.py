"""What a label mask shows, said in words: structure, extent, position on the clock face, one relation.

Grammar (ours): `[EXTENT] STRUCTURE [POSITION] [RELATION STRUCTURE], ...`. Every structure in view is named; of the
details as many are said as fit, the most useful first, so that a description keeps within 24 words and fits the
default `data.target_length`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MAX_WORDS = 24
MAX_TOKENS = 30
"""Words and punctuation marks: a target of 32 tokens less the one that names the task and [EOS]."""

SMALL, LARGE = 0.05, 0.25
"""Shares of the image's area below which a structure is small and above which it is large."""
CENTRE = 0.125
"""A centroid no further than this from the middle, in image sides, is at the centre and has no clock position."""


@dataclass(frozen=True, slots=True)
class Region:
    """One structure in one mask.

    Attributes:
      fraction: share of the image's area, 0-1.
      x, y: centroid from the middle of the image, in image widths and heights; right and down are positive.
    """

    fraction: float
    x: float
    y: float


def regions(mask: np.ndarray, n_values: int) -> list[Region]:
    """The region of each label value.

    Args:
      mask: uint8[H, W], values below `n_values`.
      n_values: number of label values, void included.

    Returns:
      One region a value, in order; an absent one has fraction 0 and lies at the centre.
    """
    height, width = mask.shape
    flat = mask.ravel()
    area = np.bincount(flat, minlength=n_values).astype(np.float64)
    columns = np.tile(np.arange(width) - (width - 1) / 2, height)
    lines = np.repeat(np.arange(height) - (height - 1) / 2, width)
    safe = np.maximum(area, 1)
    x = np.bincount(flat, weights=columns, minlength=n_values) / safe / width
    y = np.bincount(flat, weights=lines, minlength=n_values) / safe / height
    return [Region(float(a / mask.size), float(i), float(j)) for a, i, j in zip(area, x, y, strict=True)]


def extent(fraction: float) -> str:
    """small, moderate or large."""
    if fraction < SMALL:
        return "small"
    return "large" if fraction > LARGE else "moderate"


def position(region: Region) -> str:
    """The centroid on the clock face of the image: '1 o'clock' ... '12 o'clock', or 'centre'."""
    if math.hypot(region.x, region.y) <= CENTRE:
        return "centre"
    hour = round(math.degrees(math.atan2(region.x, -region.y)) / 30) % 12
    return f"{hour or 12} o'clock"


def relation(subject: Region, anchor: Region) -> str:
    """Where `subject` lies as seen from `anchor`, by the larger difference of their centroids in the image."""
    dx, dy = subject.x - anchor.x, subject.y - anchor.y
    if abs(dx) >= abs(dy):
        return "right of" if dx > 0 else "left of"
    return "below" if dy > 0 else "above"


def _size(text: str) -> tuple[int, int]:
    """Words (split at spaces) and tokens (words and punctuation marks)."""
    return len(text.split()), len(re.findall(r"\w+|[^\w\s]", text))


def _render(order: Sequence[str], details: Mapping[tuple[str, str], str], chosen: set[tuple[str, str]]) -> str:
    """The sentence with the chosen details, each in its slot around the name."""
    clauses = []
    for name in order:
        slots = [details[(name, slot)] if (name, slot) in chosen else "" for slot in ("extent", "position", "relation")]
        clauses.append(" ".join(part for part in (slots[0], name, *slots[1:]) if part))
    return ", ".join(clauses)


def describe(
    visible: Mapping[str, Region],
    order: Sequence[str],
    subjects: Sequence[str],
    anchors: Sequence[str],
    background: Sequence[str] = (),
) -> str:
    """A description of what is in view.

    Args:
      visible: the structures in view.
      order: all structure names, the most informative first: the order of clauses and of precedence.
      subjects: whose relation is worth saying; the first in view is taken.
      anchors: to what it is related; the first in view is taken.
      background: structures whose centroid means nothing: no position is given.

    Returns:
      At most 24 words, naming every structure in view; 'no structure in view' if there is none.
    """
    names = [name for name in order if name in visible]
    if not names:
        return "no structure in view"
    details: dict[tuple[str, str], str] = {}
    for name in names:
        details[(name, "extent")] = extent(visible[name].fraction)
    for number, name in enumerate(names):
        if name not in background:
            details[(name, "position")] = position(visible[name])
        if number == 0:
            details |= _relation(visible, subjects, anchors)
    chosen: set[tuple[str, str]] = set()
    for detail in details:
        words, tokens = _size(_render(names, details, chosen | {detail}))
        if words <= MAX_WORDS and tokens <= MAX_TOKENS:
            chosen.add(detail)
    return _render(names, details, chosen)


def _relation(
    visible: Mapping[str, Region], subjects: Sequence[str], anchors: Sequence[str]
) -> dict[tuple[str, str], str]:
    """The one relation that is said, as a detail of its subject; nothing if either side is missing."""
    subject = next((name for name in subjects if name in visible), None)
    anchor = next((name for name in anchors if name in visible and name != subject), None)
    if subject is None or anchor is None:
        return {}
    return {(subject, "relation"): f"{relation(visible[subject], visible[anchor])} {anchor}"}
