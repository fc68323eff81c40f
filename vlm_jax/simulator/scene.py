"""From a planned activity to what stands before the endoscope, and to the endoscope's path over its frames."""

from __future__ import annotations

import math
import zlib

import numpy as np

from vlm_jax.simulator import stations
from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.findings import EMPTY, FINDINGS, RGB, Finding
from vlm_jax.simulator.plan import Plan, PlannedActivity, stream
from vlm_jax.simulator.render import Camera, Scene, Shape

LOOKS: dict[int, tuple[RGB, str]] = {
    1: ((0.80, 0.56, 0.52), "wall"),
    2: ((0.78, 0.42, 0.44), "bulge"),
    3: ((0.86, 0.54, 0.50), "bulge"),
    4: ((0.42, 0.18, 0.18), "hole"),
    5: ((0.88, 0.62, 0.48), "crescent"),
    6: ((0.90, 0.66, 0.62), "bulge"),
    7: ((0.30, 0.12, 0.20), "hole"),
    8: ((0.66, 0.44, 0.30), "hole"),
    9: ((0.84, 0.58, 0.42), "cells"),
    10: ((0.82, 0.66, 0.60), "wall"),
    11: ((0.70, 0.46, 0.50), "cells"),
    12: ((0.76, 0.50, 0.58), "bulge"),
    13: ((0.44, 0.22, 0.34), "hole"),
    14: ((0.50, 0.34, 0.42), "hole"),
    15: ((0.88, 0.76, 0.58), "wall"),
    16: ((0.86, 0.78, 0.72), "bulge"),
    17: ((0.80, 0.20, 0.16), "vessel"),
    18: ((0.70, 0.22, 0.26), "vessel"),
    19: ((0.58, 0.32, 0.22), "hole"),
    20: ((0.32, 0.14, 0.12), "hole"),
}
"""Colour and kind of shading of each landmark."""

CENTRES: tuple[dict, ...] = (
    {"tint": (1.0, 1.0, 1.0), "border": 0.96, "noise": 0.020, "light": 1.0},
    {"tint": (1.05, 0.98, 0.95), "border": 0.92, "noise": 0.030, "light": 0.95},
    {"tint": (0.96, 1.0, 1.05), "border": 0.98, "noise": 0.015, "light": 1.05},
    {"tint": (1.02, 0.95, 0.98), "border": 0.94, "noise": 0.025, "light": 1.08},
    {"tint": (0.98, 1.03, 0.97), "border": 0.90, "noise": 0.035, "light": 0.92},
)
"""Colour, field of view, noise and light of the five centres."""


def shown(finding: Finding, activity: PlannedActivity) -> bool:
    """Whether the finding's trace would show on its landmark during this activity."""
    if activity.step not in finding.steps:
        return False
    if finding.phase == "before":
        return not (activity.turned and activity.step == finding.steps[-1])
    return finding.phase == "any" or activity.turned or activity.step != finding.steps[0]


def build_scene(config: SimulatorConfig, plan: Plan, activity: PlannedActivity) -> Scene:
    """The shapes of one activity: the view's layout, this patient's anatomy, what surgery changed, what is found."""
    region = zlib.crc32(activity.region.encode())
    rng = stream(config, plan.index, 2, int(activity.side == "right"), region)
    shapes: list[Shape] = []
    for place in stations.LAYOUTS[activity.region]:
        offset, size = rng.normal(0, 0.035, 2), np.exp(rng.normal(0, 0.07, 2))  # drawn for every row: one patient
        if place.landmark not in activity.landmarks:
            continue
        base = _altered(place, activity, plan)
        rx, ry = base.rx * size[0], base.ry * size[1]
        shapes += _with_traces(base, (base.x + offset[0], base.y + offset[1], rx, ry), plan, activity)
    tone = stream(config, plan.index, 3).normal(0, 0.03, 3)
    mucosa = (0.68 + float(tone[0]), 0.44 + float(tone[1]), 0.41 + float(tone[2]))
    return Scene(activity.side, tuple(shapes), mucosa, float(rng.uniform(0, 2 * math.pi)))


def _altered(place: stations.Place, activity: PlannedActivity, plan: Plan) -> stations.Place:
    """The landmark's ellipse after what surgery did to it."""
    x, y, rx, ry = place.x, place.y, place.rx, place.ry
    state, number = activity.state, place.landmark
    if state.passed(2) and activity.region == "middle meatus":  # the concha is pushed towards the septum
        x, rx = (x - 0.12, rx) if number == 3 else (x, rx * 1.4 if number == 4 else rx)
    if number == 5 and activity.region == "middle meatus" and state.passed(3):
        y, rx, ry = y + 0.42, rx * 0.8, ry * 0.5
    if number == 5 and activity.region == "ethmoidal infundibulum" and not state.passed(3):
        y, rx, ry = y - 0.15, rx * 1.2, ry * 1.4
    if number == 2 and plan.turbinoplasty and state.passed(11) and activity.side in plan.sides:
        rx, ry = rx * 0.7, ry * 0.75
    return stations.Place(number, x, y, rx, ry, place.depth, place.turn)


def _with_traces(
    place: stations.Place, ellipse: tuple[float, float, float, float], plan: Plan, activity: PlannedActivity
) -> list[Shape]:
    """The landmark's shape, then the marks of the findings that show on it."""
    x, y, rx, ry = (float(v) for v in ellipse)
    marks = []
    for name, finding in FINDINGS.items():
        value = plan.traits[activity.side, name]
        if finding.anchor != place.landmark or value == EMPTY or not shown(finding, activity):
            continue
        trace = finding.values[value][1]
        rx, ry = rx * trace.scale[0], ry * trace.scale[1]
        marks += trace.marks
    colour, kind = LOOKS[place.landmark]
    shapes = [Shape(place.landmark, x, y, rx, ry, place.depth, place.turn, colour, kind)]
    for k, mark in enumerate(marks):
        shapes.append(
            Shape(
                place.landmark,
                x + mark.dx * rx,
                y + mark.dy * ry,
                mark.rx * rx,
                mark.ry * ry,
                place.depth - 0.01 * (k + 1),
                place.turn,
                mark.colour,
                mark.kind,
                mark=True,
            )
        )
    return shapes


def cameras(config: SimulatorConfig, plan: Plan, activity: PlannedActivity) -> list[Camera]:
    """The endoscope in every natural frame of an activity: a slow drift about its pose, and the hand's tremor."""
    rng = stream(config, plan.index, 4, activity.index)
    n = activity.frames
    drift = rng.normal(0, 0.03, 2) * np.linspace(-1, 1, n)[:, None]
    tremor = rng.normal(0, 0.008, (n, 2)) + drift + np.array(activity.pan)
    zoom = activity.zoom * np.exp(rng.normal(0, 0.03) * np.linspace(-1, 1, n))
    roll = activity.roll + rng.normal(0, 0.01, n)
    centre = CENTRES[plan.centre]
    return [
        Camera(
            config.image_size,
            (float(tremor[k, 0]), float(tremor[k, 1])),
            float(zoom[k]),
            float(roll[k]),
            activity.scope,
            seed=(config.seed, plan.index, activity.index, k),
            **centre,
        )
        for k in range(n)
    ]
