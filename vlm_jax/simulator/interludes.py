"""Between activities: the endoscope leaves the nose to be cleaned, or its view is lost for a while.

Such frames are in no activity and not assessable: no run learns from them, and a system that reads a video meets them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlm_jax.simulator import stress
from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.plan import Plan, stream

KINDS = ("withdrawal", "cleaning", "out_of_body", "fogged", "blood")
REASONS: dict[str, float] = {"fogged": 0.45, "blood": 0.30, "": 0.25}
"""What took the view before the endoscope was withdrawn (nothing: it was changed, or the surgeon paused)."""
STAYS = 0.35
"""Chance that a fogged or bloody view clears by itself, without a withdrawal."""
SECONDS: dict[str, tuple[float, float]] = {
    "fogged": (0.6, 2.4),
    "blood": (0.6, 2.4),
    "withdrawal": (0.4, 1.0),
    "out_of_body": (0.6, 3.0),
    "cleaning": (1.0, 4.0),
}


@dataclass(frozen=True, slots=True)
class Interlude:
    """A run of frames of one kind after activity `after`: from t0 (ms), one every 1000 / fps ms."""

    index: int
    after: int
    kind: str
    t0: int
    frames: int


def draw_interludes(config: SimulatorConfig, plan: Plan) -> tuple[Interlude, ...]:
    """The interludes of one procedure, in time; none overlaps an activity or another one.

    Their frames, before thinning, are `config.unassessable_share` of all of the procedure's frames as closely as its
    gaps have room for them. They are drawn from a stream of their own: no activity depends on them.
    """
    share, shown = config.unassessable_share, sum(a.frames for a in plan.activities)
    wanted = round(shown * share / (1 - share))
    rng = stream(config, plan.index, 8)
    found: list[tuple[int, str, int, int]] = []
    for after in rng.permutation(len(plan.activities) - 1).tolist() if wanted else ():
        room = _room(config, plan, after)
        start = plan.activities[after].t1
        for kind, frames in _draw_episode(config, rng):
            frames = min(frames, room, wanted)
            if frames:
                found.append((after, kind, start, frames))
                start += round(frames * 1000 / config.fps)
                room, wanted = room - frames, wanted - frames
        if not wanted:
            break
    return tuple(Interlude(k, *row) for k, row in enumerate(sorted(found, key=lambda row: row[2])))


def _room(config: SimulatorConfig, plan: Plan, after: int) -> int:
    """Frames that fit between this activity and the next one; one is left free at the end, so that rounding of times
    never lets two frames coincide."""
    gap = plan.activities[after + 1].t0 - plan.activities[after].t1
    return max(0, int(gap * config.fps / 1000) - 1)


def _draw_episode(config: SimulatorConfig, rng: np.random.Generator) -> list[tuple[str, int]]:
    """(kind, frames) in order: what took the view, then, mostly, out of the nose, cleaned, and back."""
    reasons = dict(REASONS)
    if config.stress:
        rest = (1 - stress.BLOOD_SHARE) / (1 - REASONS["blood"])
        reasons = {name: stress.BLOOD_SHARE if name == "blood" else p * rest for name, p in REASONS.items()}
    reason = str(rng.choice(list(reasons), p=list(reasons.values())))
    kinds = [reason] if reason else []
    if not reason or rng.random() >= STAYS:
        kinds += ["withdrawal", "out_of_body"] + ["cleaning"] * bool(reason) + ["withdrawal"]
    return [(kind, max(1, round(rng.uniform(*SECONDS[kind]) * config.fps))) for kind in kinds]
