"""The endoscope's path over an activity: a rigid shaft through the nostril, a hand that drifts and trembles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vlm_jax.simulator import blocks
from vlm_jax.simulator.nose import Nose
from vlm_jax.simulator.stations import NOSTRIL, Station

CLEARANCE = 1.1  # mm of air that the tip keeps about itself
SWING = 0.40  # radians of the shaft's swing a unit of `pan`
ADVANCE = 9.0  # mm along the shaft a unit of `zoom`


@dataclass(frozen=True, slots=True)
class Path:
    """F poses. eye f32[F, 3] in mm; turn f32[F, 3, 3], columns right, up, forward; tool f32[F, 16], the instrument as a
    packed block in camera coordinates, nowhere where there is none; strengths f32[F, 8] as `nuisance.STRENGTHS`."""

    eye: np.ndarray
    turn: np.ndarray
    tool: np.ndarray
    strengths: np.ndarray


def aim(eyes: np.ndarray, target: np.ndarray, scope: float, roll: np.ndarray, swing: np.ndarray) -> np.ndarray:
    """f64[F, 3, 3], columns right, up, forward: what a scope of `scope` degrees at eyes f64[F, 3] sees when turned to
    `target`; roll f64[F] and swing f64[F, 2] in radians."""
    shaft = _unit(eyes - np.array(NOSTRIL))
    axis = np.cross(shaft, _unit(target - eyes))
    straight = np.linalg.norm(axis, axis=-1, keepdims=True) <= 1e-6
    bend = np.where(straight, 0.0, math.radians(scope))
    forward = np.cos(bend) * shaft + np.sin(bend) * np.cross(_unit(np.where(straight, (1.0, 0.0, 0.0), axis)), shaft)
    reference = np.where(abs(forward[:, 1:2]) < 0.92, (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
    right = _unit(np.cross(reference, forward))
    up = np.cross(forward, right)
    forward = _unit(forward + np.tan(swing[:, :1]) * right + np.tan(swing[:, 1:]) * up)
    right = _unit(np.cross(up, forward))
    up = np.cross(forward, right)
    cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return np.stack([cos * right + sin * up, cos * up - sin * right, forward], axis=-1)


def poses(
    station: Station, scope: int, pan: np.ndarray, zoom: np.ndarray, roll: np.ndarray, nose: Nose
) -> tuple[np.ndarray, np.ndarray]:
    """(eye f32[F, 3], turn f32[F, 3, 3]) for pan [F, 2], zoom [F], roll [F]; the tip never enters tissue: where it
    would, it is drawn back along the shaft."""
    base, target = np.array(station.eye), np.array(station.target)
    shaft = _unit(base - np.array(NOSTRIL))
    across = np.array([1.0, 0.0, 0.0])
    eyes = base + shaft * (ADVANCE * (zoom - 1))[:, None] + across * pan[:, :1] * 1.2
    eyes = withdraw(eyes, shaft, nose)
    return eyes.astype(np.float32), aim(eyes, target, scope, roll, SWING * pan).astype(np.float32)


def withdraw(eyes: np.ndarray, shaft: np.ndarray, nose: Nose) -> np.ndarray:
    """Eyes f64[F, 3] moved back along the shaft until they are clear; the clearest place where none is."""
    out, tight = eyes.copy(), clearance(eyes, nose) < CLEARANCE
    if tight.any():
        candidates = eyes[tight, None] - shaft * np.arange(0, 16, 0.5)[:, None]
        free = clearance(candidates, nose)
        first = np.where((free >= CLEARANCE).any(axis=1), (free >= CLEARANCE).argmax(axis=1), free.argmax(axis=1))
        out[tight] = candidates[np.arange(len(first)), first]
    return out


def clearance(points: np.ndarray, nose: Nose) -> np.ndarray:
    """Distance f64[...] (mm) to tissue without blending and bending, which change it by 1.5 mm at most."""
    air = np.max([-blocks.distance(b, points) for b in nose.airways], axis=0)
    return np.min([air, *(blocks.distance(b, points) for b in nose.solids)], axis=0)


def instrument(tip: np.ndarray, entry: np.ndarray, radius: float) -> np.ndarray:
    """f32[16]: a shaft from `entry` to `tip`, both in camera coordinates (right, up, forward; mm)."""
    along = _unit(tip - entry)
    side = _unit(np.cross([0.0, 1.0, 0.0], along))
    packed = np.zeros(blocks.WIDTH, np.float32)
    packed[:3] = (tip + entry) / 2
    packed[3:12] = np.stack([side, np.cross(along, side), along]).ravel()
    packed[12:15] = (0, 0, np.linalg.norm(tip - entry) / 2)
    packed[15] = radius
    return packed


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)
