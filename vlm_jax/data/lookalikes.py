"""Frames of two groups that show the same picture, however it was encoded: what must not lie on both sides of a split.

Pictures are compared as thumbnails of 36 x 36 pixels. Two that differ by `SAME_PICTURE` grey levels on average differ
no more in the means of their cells: a tree over those finds every candidate, and the pixels decide. A hash of signs of
gradients will not do: most endoscopic frames are bright in the middle and dark at the border, and share it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
from scipy.spatial import KDTree

from vlm_jax.data.progress import Progress

SIDE = 36
"""Pixels of a thumbnail."""
SAME_PICTURE = 4.0
"""Mean difference in grey levels (0-255) up to which two thumbnails are of the same picture. Another JPEG encoding of a
picture differs by less; no two of the 129,291 frames of 30 simulated patients come so near."""
_CELLS = 4
_FLAT = 8.0
"""Grey levels between the darkest and the brightest cell below which an image shows nothing: black frames are alike."""


class Lookalikes:
    """Thumbnails by group, four kilobytes each."""

    def __init__(self) -> None:
        self._frames: dict[str, list[tuple[int, np.ndarray]]] = defaultdict(list)

    def add(self, group: str, key: int, thumbnail: np.ndarray) -> None:
        """Takes in uint8[36, 36, 3]; one that shows nothing is left out."""
        if np.ptp(_cells(thumbnail)) >= _FLAT:
            self._frames[group].append((key, thumbnail))

    def pairs(self, progress: bool = True) -> Iterator[tuple[str, int, str, int]]:
        """(group, key, later group, key): every frame of a later group with the first that matches in each earlier."""
        trees = {group: KDTree(np.stack([_cells(t) for _, t in some])) for group, some in self._frames.items()}
        names = list(trees)
        with Progress("near-duplicates", len(names), "frames", progress) as bar:
            for k, later in enumerate(names):
                for group in names[:k]:
                    for same, key in self._matches(group, later, trees):
                        yield group, same, later, key
                bar.tick(len(self._frames[later]))
                bar.step(f"{len(self._frames[later])} frames compared")

    def _matches(self, group: str, later: str, trees: Mapping[str, KDTree]) -> Iterator[tuple[int, int]]:
        near = trees[later].query_ball_tree(trees[group], SAME_PICTURE * _CELLS**2, p=1)
        for (key, thumbnail), candidates in zip(self._frames[later], near, strict=True):
            others = (self._frames[group][i] for i in sorted(candidates))
            same = next((other for other, picture in others if _same(picture, thumbnail)), None)
            if same is not None:
                yield same, key


def _cells(thumbnail: np.ndarray) -> np.ndarray:
    """float[16]: mean grey level of each cell of a 4 x 4 grid."""
    side = SIDE // _CELLS
    return thumbnail.reshape(_CELLS, side, _CELLS, side, 3).mean(axis=(1, 3, 4)).ravel()


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a.astype(np.int32) - b.astype(np.int32)).mean() <= SAME_PICTURE)
