"""One procedure before anything is rendered, as `workflow` draws it and `scene` and `language` read it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.surgery import SideState


def stream(config: SimulatorConfig, index: int, *path: int) -> np.random.Generator:
    """The random numbers of one purpose in one procedure: a function of the seed, the index and the path alone."""
    return np.random.default_rng([config.seed, index, *path])


@dataclass(frozen=True, slots=True)
class PlannedActivity:
    """One activity before anything is rendered: [t0, t1) in ms, pose (pan, zoom, roll) of the endoscope's base."""

    index: int
    side: str
    step: int
    region: str
    scope: int
    t0: int
    t1: int
    frames: int
    state: SideState
    landmarks: tuple[int, ...]
    pan: tuple[float, float]
    zoom: float
    roll: float

    @property
    def turned(self) -> bool:
        """Whether the step's structure is already opened or removed."""
        return self.state.turned


@dataclass(frozen=True, slots=True)
class Plan:
    """One procedure: who operates where, which operations it holds, and `traits`, the findings of each side."""

    index: int
    surgeon: int
    centre: int
    sides: tuple[str, ...]
    revision: bool
    septoplasty: str
    turbinoplasty: bool
    back_to_front: bool
    draf: dict[str, str]
    traits: dict[tuple[str, str], str]
    activities: tuple[PlannedActivity, ...] = field(default=())
