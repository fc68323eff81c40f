"""Which frames lie before a frame in its video: what a model of F > 1 frames sees beside it."""

from __future__ import annotations

import numpy as np

from vlm_jax.data.frame_index import FrameIndex


class PrecedingFrames:
    """Assessable frames of one data set, by procedure, video and time."""

    def __init__(self, index: FrameIndex):
        order = np.lexsort((index.pts_ms, index.video, index.procedure))
        self._order = order[index.assessable[order]]
        self._place = np.full(len(index), -1, np.int64)
        self._place[self._order] = np.arange(len(self._order))
        names = np.char.add(np.char.add(index.procedure, "/"), index.video) if len(index) else index.video
        self._video = names[self._order]

    def before(self, frame: int, n: int, step: int = 1) -> list[int]:
        """Up to `n` rows of the frame index, the nearest first, `step` frames apart; fewer where the video begins.

        Activities do not matter: what was seen before the present one is known, too.
        """
        place = int(self._place[frame])
        found: list[int] = []
        for k in range(1, n + 1):
            earlier = place - k * step
            if place < 0 or earlier < 0 or self._video[earlier] != self._video[place]:
                break
            found.append(int(self._order[earlier]))
        return found
