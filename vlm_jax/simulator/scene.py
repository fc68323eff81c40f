"""From a planned activity to what stands before the endoscope, and to the endoscope's path over its frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vlm_jax.simulator import anatomy, blocks, camera, nose, nuisance, stations
from vlm_jax.simulator.centres import CENTRES, Centre
from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.field import AIRWAYS, PAINTS, SOLIDS
from vlm_jax.simulator.findings import EMPTY, FINDINGS, Finding, Mark
from vlm_jax.simulator.plan import Plan, PlannedActivity, stream
from vlm_jax.simulator.shade import DECAL_WIDTH, DECALS
from vlm_jax.simulator.surgery import available

ARTERIES = (17, 18)
BEND = 0.5  # mm


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where a landmark bears the marks of its findings: centre, image-right and image-up axes with the landmark's radii
    as their lengths, and the depth (mm) to which a mark reaches along the third axis."""

    centre: blocks.Vector
    right: blocks.Vector
    up: blocks.Vector
    depth: float


ANCHORS: dict[int, Anchor] = {
    1: Anchor((0.8, 19, 26), (0, 0, 9), (0, 9, 0), 4),
    2: Anchor((10.0, 10, 19.5), (4.0, 0, 0), (0, 4.2, 0), 6),
    3: Anchor((6.6, 22, 32), (2.2, 0, 0), (0, 6.0, 0), 6),
    4: Anchor((11.5, 19, 36), (3.4, 0, 0), (0, 5.0, 0), 9),
    6: Anchor((11.4, 25, 39), (3.6, 0, 0), (0, 3.9, 0), 5),
    7: Anchor((15.0, 19, 38), (0, 0, -2.2), (0, 2.0, 0), 3),
    8: Anchor((34.0, 14, 46), (0, 0, -11), (0, 10, 0), 16),
    9: Anchor((11.5, 32, 42), (3.6, 0, 0), (0, 5.0, 0), 8),
    11: Anchor((10.5, 30, 58), (4.0, 0, 0), (0, 5.0, 0), 8),
    12: Anchor((5.6, 33, 56), (1.4, 0, 0), (0, 4.0, 0), 5),
    13: Anchor((4.2, 31, 67), (1.8, 0, 0), (0, 1.8, 0), 4),
    14: Anchor((6.5, 28, 77), (6.0, 0, 0), (0, 7.0, 0), 10),
    15: Anchor((14.8, 30.5, 48), (0, 0, -10), (0, 6.0, 0), 4),
    16: Anchor((10.5, 37.5, 50), (4.2, 0, 0), (0, 0, -10), 4),
    17: Anchor((10.0, 37, 42), (4.6, 0, 0), (0, 0, -1.5), 3),
    18: Anchor((9.8, 36, 56), (4.2, 0, 0), (0, 0, -1.5), 3),
    19: Anchor((10.4, 39, 35), (3.0, 0, 0), (0, 0, -3.0), 8),
    20: Anchor((6.5, 9.5, 70), (6.0, 0, 0), (0, 7.0, 0), 9),
}
KINDS = {"flat": 0, "bulge": 1, "hole": 2}


@dataclass(frozen=True, slots=True)
class Scene:
    """What stands before the endoscope, ready for the tracer (see `field.Packed`, `shade.Look`).

    solids f32[SOLIDS, 16], airways f32[AIRWAYS, 16], paints f32[PAINTS, 16]; slots f32[SOLIDS + PAINTS + 1, 4];
    decals f32[DECALS, DECAL_WIDTH]; phase f32[3]. The right side is the left one's mirror image.
    """

    side: str
    centre: Centre
    nose: nose.Nose
    solids: np.ndarray
    airways: np.ndarray
    paints: np.ndarray
    slots: np.ndarray
    decals: np.ndarray
    phase: np.ndarray
    texture: float


def shown(finding: Finding, activity: PlannedActivity) -> bool:
    """Whether the finding's trace would show on its landmark during this activity."""
    if activity.step not in finding.steps:
        return False
    if finding.phase == "before":
        return not (activity.turned and activity.step == finding.steps[-1])
    return finding.phase == "any" or activity.turned or activity.step != finding.steps[0]


def nameable(activity: PlannedActivity) -> frozenset[int]:
    """Landmarks that may be named in this activity: the table's steps and scopes, and arteries out of their bone. What
    may not be named is still there, without a name."""
    arteries = {n for n in ARTERIES if n in activity.landmarks}
    names = {
        a.number
        for a in anatomy.LANDMARKS
        if available(a.number, activity.state) and activity.scope in a.scopes and a.number not in ARTERIES
    }
    if arteries:  # at the skull base the choana is out of the question
        names.discard(20)
    if activity.region != "sphenoidal sinus" and 10 in names:  # behind an intact basal lamella
        names.discard(14)
    return frozenset(names | arteries)


def build_scene(config: SimulatorConfig, plan: Plan, activity: PlannedActivity) -> Scene:
    """This patient's side as surgery has left it by now, with what is found there."""
    rng = stream(config, plan.index, 2, int(activity.side == "right"))
    variant = replace(nose.draw_variant(rng), turbinoplasty=plan.turbinoplasty and activity.side in plan.sides)
    phase = rng.uniform(0, 6.28, 3).astype(np.float32)
    marks: list[tuple[int, Mark]] = []
    for name, finding in FINDINGS.items():
        value = plan.traits[activity.side, name]
        trace = finding.values[value][1]
        variant = replace(variant, **trace.variant)
        if value != EMPTY and shown(finding, activity):
            marks += [(finding.anchor, mark) for mark in trace.marks]
    names = nameable(activity)
    side = nose.build(variant, activity.state, frozenset(n for n in ARTERIES if n in activity.landmarks))
    tone = stream(config, plan.index, 3).normal(0, 1, 3) * (0.02, 0.03, 0.03)
    return Scene(
        side=activity.side,
        centre=CENTRES[plan.centre],
        nose=side,
        solids=blocks.pack(side.solids, SOLIDS),
        airways=blocks.pack(side.airways, AIRWAYS),
        paints=blocks.pack(side.paints, PAINTS),
        slots=_slots(side, names, tone),
        decals=_decals(marks, activity),
        phase=phase,
        texture=float(rng.uniform(0, 6.28)),
    )


def _slots(side: nose.Nose, names: frozenset[int], tone: np.ndarray) -> np.ndarray:
    slots = np.zeros((SOLIDS + PAINTS + 1, 4), np.float32)
    for start, group in ((0, side.solids), (SOLIDS, side.paints)):
        for k, block in enumerate(group):
            known = block.landmark in names
            # A part of the wall that has no name yet looks like the wall.
            colour = block.colour if known or start == 0 else nose.MUCOSA
            slots[start + k] = (*(np.array(colour) + tone).clip(0.03, 0.97), block.landmark if known else 0)
    slots[-1, :3] = (np.array(nose.MUCOSA) + tone).clip(0.03, 0.97)
    return slots


def _decals(marks: list[tuple[int, Mark]], activity: PlannedActivity) -> np.ndarray:
    packed = np.zeros((DECALS, DECAL_WIDTH), np.float32)
    packed[:, 0] = -1
    for row, (number, mark) in zip(packed[: len(marks)], marks, strict=True):
        anchor = ANCHORS[number]
        right, up = np.array(anchor.right, float), np.array(anchor.up, float)
        centre = np.array(anchor.centre) + mark.dx * right + mark.dy * up
        if number == 3 and activity.state.passed(2):
            centre[0] -= 1.4
        third = np.cross(right, up)
        third *= anchor.depth / np.linalg.norm(third)
        axes = np.stack([right * mark.rx, up * mark.ry, third])
        row[0], row[1:4] = number, centre
        row[4:13] = (axes / (axes**2).sum(axis=1, keepdims=True)).ravel()
        row[13:16], row[16], row[17] = mark.colour, KINDS[mark.kind], 1.0
    return packed


def endoscope(config: SimulatorConfig, plan: Plan, activity: PlannedActivity, scene: Scene) -> camera.Path:
    """The endoscope in every natural frame of an activity: a slow drift about its pose, and the hand's tremor."""
    rng = stream(config, plan.index, 4, activity.index)
    n = activity.frames
    through_nose = not activity.state.passed(7)
    station = stations.station(activity.region, activity.scope, through_nose)
    line = np.linspace(-1, 1, n)
    pan = np.array(activity.pan) + rng.normal(0, 0.05, 2) * line[:, None] + rng.normal(0, 0.012, (n, 2))
    zoom = activity.zoom * np.exp(rng.normal(0, 0.04) * line)
    roll = activity.roll + rng.normal(0, 0.012, n)
    eye, turn = camera.poses(station, activity.scope, pan, zoom, roll, scene.nose)
    means = {name: getattr(config, name) for name in nuisance.STRENGTHS}
    return camera.Path(
        eye, turn, _instruments(config, rng, activity, n), nuisance.draw_strengths(rng, means, n, activity.step)
    )


def _instruments(config: SimulatorConfig, rng: np.random.Generator, activity: PlannedActivity, n: int) -> np.ndarray:
    """f32[n, 16]: from step 1 on an instrument comes in from below for a part of the activity, as often as is set."""
    nowhere = blocks.pack((), 1)
    tools = np.repeat(nowhere, n, axis=0)
    start, length = rng.uniform(0, 1), rng.uniform(0.3, 1.0)
    angle, reach, radius = rng.uniform(-2.4, -0.7), rng.uniform(7.0, 13.0), rng.uniform(0.5, 1.1)
    tip = np.array([rng.uniform(-2.0, 2.0), rng.uniform(-2.5, 1.0), 0.0])
    if activity.step == 0 or rng.random() >= config.instruments:
        return tools
    for k in range(n):
        if (k / max(1, n) - start) % 1.0 < length:
            sway = rng.normal(0, 0.25, 3)
            entry = np.array([5.0 * np.cos(angle), 5.0 * np.sin(angle), 1.0])
            tools[k] = camera.instrument(tip + sway + (0, 0, reach), entry, radius)
    return tools
