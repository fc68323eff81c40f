"""One operation as it is drawn: who, which sides, which steps in which order, and its activities in time.

Everything here is a function of (config, index); nothing looks at pixels.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from vlm_jax.simulator import anatomy, findings, stations, stress
from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.plan import Plan, PlannedActivity, stream
from vlm_jax.simulator.steps import STEPS, Step
from vlm_jax.simulator.surgery import SideState, in_view

BLOCK = 10
"""Procedures are drawn in strata of ten: each surgeon once, the number of activities evenly over its quantiles."""
ACTIVITY_CV = 0.17
DURATION_SIGMA = 0.7
HIDDEN = ((17, 0.35), (18, 0.7))
"""How often bone hides each ethmoidal artery where it would be in view."""
GAP_RATIO = (16 - 7.2) / 7.2
"""KNOWN by division: annotated windows cover about 7.2 of 16 hours."""


# --- Who and what ----------------------------------------------------------------------------------------------------


def _stratum(config: SimulatorConfig, index: int, purpose: int) -> int:
    """This procedure's place 0-9 in a random order of its block of ten."""
    block, place = divmod(index, BLOCK)
    return int(np.random.default_rng([config.seed, 2**31 + block, purpose]).permutation(BLOCK)[place])


def n_activities(config: SimulatorConfig, index: int) -> int:
    """Log-normal about the configured mean, stratified in blocks of ten so that thirty procedures hit it closely."""
    quantile = (_stratum(config, index, 1) + stream(config, index, 1).uniform(0.02, 0.98)) / BLOCK
    sigma = math.sqrt(math.log1p(ACTIVITY_CV**2))
    factor = math.exp(sigma * NormalDist().inv_cdf(quantile) - sigma**2 / 2)
    return max(8, round(config.activities_per_procedure * factor))


def draw_plan(config: SimulatorConfig, index: int) -> Plan:
    """The whole procedure with its activities."""
    rng = stream(config, index, 0)
    count = n_activities(config, index)
    first = str(rng.choice(anatomy.SIDES))
    both = rng.random() < min(0.8, max(0.0, (count - 24) / 24))
    sides = (first, other_side(first)) if both else (first,)
    surgeon = _stratum(config, index, 2)
    plan = Plan(
        index=index,
        surgeon=surgeon,
        centre=_centre(config, index, surgeon),
        sides=sides,
        revision=bool(rng.random() < 0.15),
        septoplasty=str(rng.choice(["", "first", "last"], p=[0.65, 0.2, 0.15])),
        turbinoplasty=bool(rng.random() < 0.3),
        back_to_front=bool(rng.random() < 0.3),
        draf={
            s: str(rng.choice(["Draf I", "Draf IIa", "Draf IIb", "Draf III"], p=[0.4, 0.52, 0.05, 0.03])) for s in sides
        },
        traits=draw_traits(config, rng, sides),
    )
    return replace(plan, activities=tuple(_draw_activities(config, rng, plan, count)))


def _centre(config: SimulatorConfig, index: int, surgeon: int) -> int:
    """Two surgeons work at each of five centres; where reports tell nothing of the image, the surgeon is no hint."""
    place = _stratum(config, index, 3) if config.world == "reports_independent" else surgeon
    return place * anatomy.N_CENTRES // anatomy.N_SURGEONS


def other_side(side: str) -> str:
    """Left for right, right for left."""
    return "right" if side == "left" else "left"


def draw_traits(
    config: SimulatorConfig, rng: np.random.Generator, sides: tuple[str, ...]
) -> dict[tuple[str, str], str]:
    """One patient's findings and complications: (side, finding) -> value; complications on an operated side."""
    traits = {}
    for side in anatomy.SIDES:
        for name in findings.FINDINGS:
            rates = stress.value_rates(config, name)
            traits[side, name] = list(rates)[int(rng.choice(len(rates), p=list(rates.values())))]
    # A septum that bulges into one side leaves the other: one draw serves both.
    opposite = {"towards this side": "towards the other side", "towards the other side": "towards this side"}
    traits["right", "septum"] = opposite.get(traits["left", "septum"], findings.EMPTY)
    for name, value, rate in (
        ("orbital fat", "orbital fat", stress.complication_rate(config, "breach")),
        ("leak", "clear fluid", stress.complication_rate(config, "leak")),
    ):
        if rng.random() < rate:
            traits[sides[int(rng.integers(len(sides)))], name] = value
    return traits


def draw_steps(rng: np.random.Generator, back_to_front: bool) -> tuple[int, ...]:
    """The steps S1-S11 of one side, in order. Optional steps keep the table's probabilities."""
    chance = {step.number: step.probability for step in STEPS}
    chosen = {1, 2, 3, 11}
    if rng.random() < chance[4]:
        chosen.add(4)
    if rng.random() < chance[5]:
        chosen.add(5)
        if rng.random() < chance[10] / chance[5]:
            chosen.add(10)
        if rng.random() < chance[7] / chance[5]:
            chosen |= {6, 7}
            if rng.random() < chance[9] / chance[7]:
                chosen.add(9)
    if rng.random() < chance[8]:
        chosen.add(8)
    order = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    if rng.random() < 0.2:
        order[3], order[4] = 5, 4
    # Back to front, and wherever the posterior ethmoid stays closed, the sphenoid is entered through the nose.
    if back_to_front or 7 not in chosen:
        order.remove(8)
        order.insert(order.index(3) + 1, 8)
    return tuple(step for step in order if step in chosen)


def _draw_units(rng: np.random.Generator, plan: Plan, count: int) -> list[tuple[str, int, int]]:
    """(side, step, number of activities) in the order in which they happen; they add up to `count`."""
    units = [(side, 0) for side in (plan.sides[0], other_side(plan.sides[0]))]
    for side in plan.sides:
        units += [(side, step) for step in draw_steps(rng, plan.back_to_front)]
    units = units[:count]
    per_side = {0: 2 / len(plan.sides)}  # S0 inspects both sides, whatever is operated on
    share = np.array([STEPS[k].share / STEPS[k].probability / per_side.get(k, 1.0) for _, k in units])
    share *= rng.gamma(12, 1 / 12, len(units))
    spare = (count - len(units)) * share / share.sum()
    numbers = 1 + np.floor(spare).astype(int)
    for place in np.argsort(np.floor(spare) - spare)[: count - int(numbers.sum())]:
        numbers[place] += 1
    return [(side, step, int(n)) for (side, step), n in zip(units, numbers, strict=True)]


# --- Activities ------------------------------------------------------------------------------------------------------


def _draw_activities(
    config: SimulatorConfig, rng: np.random.Generator, plan: Plan, count: int
) -> list[PlannedActivity]:
    states = {side: _initial_state(rng, plan) for side in anatomy.SIDES}
    activities: list[PlannedActivity] = []
    clock = int(rng.integers(5, 60)) * 1000
    for side, number, n in _draw_units(rng, plan, count):
        step = STEPS[number]
        previous: PlannedActivity | None = None
        for place in range(n):
            state = replace(states[side], current=number, turned=(place + 0.5) / n >= step.turn)
            previous = draw_activity(config, rng, side, step, state, place / n, previous, (len(activities), clock))
            activities.append(previous)
            clock = previous.t1 + _gap(config, rng)
        states[side] = replace(states[side], done=states[side].done | {number})
    return activities


def _initial_state(rng: np.random.Generator, plan: Plan) -> SideState:
    missing = {n for n, chance in ((5, 0.6), (6, 0.4)) if plan.revision and rng.random() < chance}
    return SideState(missing=frozenset(missing), stump=bool(rng.random() < 0.8), roomy=bool(rng.random() < 0.5))


def _gap(config: SimulatorConfig, rng: np.random.Generator) -> int:
    mean = config.activity_seconds * GAP_RATIO
    return 200 * round(5 * mean * math.exp(rng.normal(-0.5, 1.0)))


def draw_activity(
    config: SimulatorConfig,
    rng: np.random.Generator,
    side: str,
    step: Step,
    state: SideState,
    progress: float,
    previous: PlannedActivity | None,
    place: tuple[int, int],
) -> PlannedActivity:
    """One activity, `progress` (0-1) into its step, after `previous` of the same step; `place` is (index, t0)."""
    region, scope = _draw_view(rng, step, state, progress, previous)
    stays = previous is not None and previous.region == region and previous.scope == scope
    pan, roll = (rng.normal(0, 0.14), rng.normal(0, 0.12)), rng.normal(0, 0.08)
    if previous is not None and stays:  # the hand moves on from where it was
        pan = (0.6 * previous.pan[0] + 0.8 * pan[0], 0.6 * previous.pan[1] + 0.8 * pan[1])
        roll = 0.6 * previous.roll + 0.8 * roll
    seconds = config.activity_seconds * math.exp(DURATION_SIGMA * rng.normal() - DURATION_SIGMA**2 / 2)
    frames = max(1, round(seconds * config.fps))
    under_bone = {number for number, chance in HIDDEN if rng.random() < chance}
    landmarks = tuple(n for n in in_view(region, state, scope) if n not in under_bone)
    return PlannedActivity(
        index=place[0],
        side=side,
        step=step.number,
        region=region,
        scope=scope,
        t0=place[1],
        t1=place[1] + round(frames * 1000 / config.fps),
        frames=frames,
        state=state,
        landmarks=landmarks,
        pan=(float(np.clip(pan[0], -0.3, 0.3)), float(np.clip(pan[1], -0.3, 0.3))),
        zoom=float(np.clip(math.exp(rng.normal(0.05, 0.1)), 0.8, 1.35)),
        roll=float(np.clip(roll, -0.2, 0.2)),
    )


def _reachable(region: str, state: SideState) -> bool:
    if region in ("maxillary sinus", "common ethmoid cavity"):
        return state.passed(stations.NEEDS[region])
    return region not in stations.NEEDS or state.begun(stations.NEEDS[region])


def _draw_view(
    rng: np.random.Generator, step: Step, state: SideState, progress: float, previous: PlannedActivity | None
) -> tuple[str, int]:
    """Region and scope. S0 passes through its regions in order; in other steps the endoscope dwells, then moves."""
    views = [v for v in step.views if _reachable(v[0], state)]
    if step.number == 4:  # the natural opening until it is widened, then the sinus
        views = [v for v in views if v[0] != ("ethmoidal infundibulum" if state.turned else "maxillary sinus")]
    weights = np.array([v[1] for v in views])
    if step.number == 0:
        chosen = views[int(np.searchsorted(np.cumsum(weights), progress, side="right").clip(0, len(views) - 1))]
        return chosen[0], int(rng.choice(chosen[2]))
    if previous is not None and any(v[0] == previous.region for v in views) and rng.random() < 0.6:
        return previous.region, previous.scope
    chosen = views[int(rng.choice(len(views), p=weights / weights.sum()))]
    return chosen[0], int(rng.choice(chosen[2]))
