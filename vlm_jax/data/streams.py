"""The named random streams of the data room: same seed, and yet no draw of one repeats a draw of another."""

from __future__ import annotations

import numpy as np

STREAMS = {"split": 1, "validation": 2, "mixture": 3, "augment": 4, "validation draw": 5}
"""{name: tag}. Never 0: numpy pads seeds with zeros, so that (5,) and (5, 0) are one."""


def stream(name: str, seed: int, *numbers: int) -> np.random.Generator:
    """The generator of one stream at `numbers` (an epoch, a slot); the same arguments give the same draws."""
    return np.random.default_rng((STREAMS[name], seed, *numbers))
