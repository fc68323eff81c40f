"""The generator forked: what may come next from a moment, given all of its state or only what its inputs reveal.

No data set depends on this module; it measures how much there is to know. A fork redraws what the generator has not
drawn yet, and, where only the inputs are given, what they leave open:

- `state`: patient, plan, step, progress and pose are known; the next view and the hand (drift, tremor) are redrawn.
- `inputs`: the frame is taken to reveal the patient's anatomy, the region and the pose, and of the workflow what the
  traces in view show; the rest (step, progress, plan) is that of a random moment that would look the same.
- `text`: as `inputs`, but without the traces: what the description alone reveals, generously read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.findings import EMPTY, FINDINGS
from vlm_jax.simulator.plan import Plan, PlannedActivity
from vlm_jax.simulator.procedure import MAX_MOVES, moved_on, reference_view
from vlm_jax.simulator.render import Sight, sights
from vlm_jax.simulator.scene import build_scene, endoscope, shown
from vlm_jax.simulator.steps import STEPS
from vlm_jax.simulator.workflow import draw_activity, draw_plan, other_side
from vlm_jax.simulator.worlds import Case

Known = Literal["state", "inputs", "text"]
Outcome = tuple[frozenset[int], str]
"""Labels and description of an activity."""

FRAMES = {"describe": 3, "anticipate": 1}
"""Frames of an activity from which a fork is read, evenly spread: what is left open of `anticipate` is more than the
hand."""
HAND = 0.012
"""What one frame leaves open of the mean pose: the tremor's standard deviation, in units of `pan`."""
_BEYOND = 100_000
"""Activities of forks are numbered beyond all of a plan's own: their hand is drawn from streams of their own."""


def reference_sights(config: SimulatorConfig, some: Sequence[Case], frames: int) -> list[Sight]:
    """What the middle one or all three of three frames of each activity show, without rendering its images: nearly all
    of the time goes here."""
    views = []
    for plan, activity in some:
        short = replace(activity, frames=3)
        scene = build_scene(config, plan, short)
        views.append((scene, endoscope(config, plan, short, scene), range(3) if frames == 3 else (1,)))
    return sights(views) if views else []


def observe(config: SimulatorConfig, some: Sequence[Case], before: str | None = None, frames: int = 3) -> list[Outcome]:
    """Labels and description of each activity, read from three or one of its frames. As in `procedure.look`, one that
    would read like the one `before` it moves on a little."""
    found = [reference_view(a, s) for (_, a), s in zip(some, reference_sights(config, some, frames), strict=True)]
    now = list(some)
    for attempt in range(MAX_MOVES):
        same = [k for k, (_, text) in enumerate(found) if text == before]
        if not same:
            break
        for k in same:
            now[k] = (some[k][0], moved_on(config, some[k][0], some[k][1], now[k][1], attempt))
        moved = [now[k] for k in same]
        for k, (_, activity), sight in zip(same, moved, reference_sights(config, moved, frames), strict=True):
            found[k] = reference_view(activity, sight)
    return found


# --- Moments ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moment:
    """An activity of a plan: the state that is forked."""

    plan: Plan
    index: int

    @property
    def activity(self) -> PlannedActivity:
        return self.plan.activities[self.index]


@cache
def _traces(step: int, turned: bool) -> frozenset[str]:
    """Findings whose traces show during a step, before or after its turn."""
    probe = _Probe(step, turned)
    return frozenset(name for name, finding in FINDINGS.items() if shown(finding, probe))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Probe:
    step: int
    turned: bool


class Pool:
    """Moments of many operations, to draw from those that would look like a given one."""

    def __init__(self, config: SimulatorConfig, indices: Iterable[int]) -> None:
        self.config = config
        self.moments: list[Moment] = []
        self._alike: dict[tuple[str, tuple[int, ...]], list[Moment]] = defaultdict(list)
        for index in indices:
            plan = draw_plan(config, index)
            for activity in plan.activities:
                self.moments.append(Moment(plan, activity.index))
                self._alike[activity.region, activity.landmarks].append(self.moments[-1])

    def alike(self, moment: Moment, known: Known) -> list[Moment]:
        """The moments whose hidden workflow could be this one's, itself among them."""
        if known == "state":
            return [moment]
        activity = moment.activity
        same = self._alike.get((activity.region, activity.landmarks), [])
        if known == "inputs":
            bearing = self._bearing(moment)
            mine = _traces(activity.step, activity.turned) & bearing
            same = [m for m in same if _traces(m.activity.step, m.activity.turned) & bearing == mine]
        return [moment, *same]

    def _bearing(self, moment: Moment) -> frozenset[str]:
        """Findings that this patient has on landmarks in view: whether their traces show tells of the workflow."""
        activity, traits = moment.activity, moment.plan.traits
        return frozenset(
            name
            for name, finding in FINDINGS.items()
            if finding.anchor in activity.landmarks and traits[activity.side, name] != EMPTY
        )


# --- Forks -----------------------------------------------------------------------------------------------------------


def fork_current(moment: Moment, known: Known, n: int, rng: np.random.Generator) -> list[Case]:
    """The activity under way with `n` other hands; given only the frame, its mean pose is known up to the tremor."""
    forks = []
    for k in range(n):
        activity = replace(moment.activity, index=moment.index + _BEYOND * (1 + int(rng.integers(2**20))) + k)
        if known != "state":
            pan = np.clip(np.array(activity.pan) + rng.normal(0, HAND, 2), -0.3, 0.3)
            activity = replace(activity, pan=(float(pan[0]), float(pan[1])))
        forks.append((moment.plan, activity))
    return forks


def fork_next(pool: Pool, moment: Moment, known: Known, n: int, rng: np.random.Generator) -> list[Case | None]:
    """The activity after this one, `n` times; None where the procedure ends."""
    if pool.config.world == "previous_shuffled":  # an activity of anybody's follows
        last = moment.index == len(moment.plan.activities) - 1
        if last and known == "state":
            return [None] * n
        drawn = [pool.moments[int(rng.integers(len(pool.moments)))] for _ in range(n)]
        return [(m.plan, replace(m.activity, index=_BEYOND + k)) for k, m in enumerate(drawn)]
    hidden = pool.alike(moment, known)
    chosen = [hidden[int(rng.integers(len(hidden)))] for _ in range(n)]
    return [_follow(pool.config, moment, other, rng, k) for k, other in enumerate(chosen)]


def _follow(config: SimulatorConfig, moment: Moment, hidden: Moment, rng: np.random.Generator, k: int) -> Case | None:
    """What follows `moment` (patient, pose) if its workflow is that of `hidden`, mirrored where the sides differ."""
    if hidden.index + 1 == len(hidden.plan.activities):
        return None
    now, after = hidden.activity, hidden.plan.activities[hidden.index + 1]
    side = moment.activity.side if after.side == now.side else other_side(moment.activity.side)
    goes_on = (after.side, after.step) == (now.side, now.step)
    previous = moment.activity if goes_on else None
    place = (moment.index + 1 + _BEYOND * (1 + int(rng.integers(2**20))) + k, after.t0)
    step = STEPS[after.step]
    return moment.plan, draw_activity(config, rng, side, step, after.state, _progress(hidden), previous, place)


def _progress(hidden: Moment) -> float:
    """How far into its step the activity after `hidden` begins (0-1)."""
    activities, index = hidden.plan.activities, hidden.index + 1
    own = (activities[index].side, activities[index].step)
    first, end = index, index + 1
    while first and (activities[first - 1].side, activities[first - 1].step) == own:
        first -= 1
    while end < len(activities) and (activities[end].side, activities[end].step) == own:
        end += 1
    return (index - first) / (end - first)
