"""Calibration of landmark scores on validation: a slope, or a slope and an offset, of each class's logit.

What corrects for rare classes in training (sampling, other losses, adjusted logits) leaves scores that are no longer
probabilities. Platt scaling (Platt 1999) with his smoothed targets, or temperature scaling (Guo et al. 2017) a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit

Calibration = dict[str, tuple[float, float]]
"""{scoped label: (slope, offset) of its logit}; a label that is not there stays as it is."""

MIN_ACTIVITIES = 5
"""With fewer validation activities of either kind, with the class and without it, a class keeps its scores."""
_ITERATIONS = 100
_SLOPES = (0.01, 100.0)
_PRIOR = np.array([0.5, 1.5])
"""Standard deviations of a slope's logarithm and of an offset, before any label is seen."""


def logit(score: np.ndarray) -> np.ndarray:
    """float64: log-odds of scores in [0, 1], finite."""
    p = np.clip(np.asarray(score, np.float64), 1e-7, 1 - 1e-7)
    return np.log(p) - np.log1p(-p)


def fit_calibration(
    score: np.ndarray,
    truth: np.ndarray,
    known: np.ndarray,
    activities: Sequence[str],
    names: Sequence[str],
    kind: str,
) -> Calibration:
    """Per class from validation frames.

    Args:
      score: float[U, C] in [0, 1]. truth, known: bool[U, C].
      activities: U names, the same for frames of one activity.
      names: of the C columns.
      kind: none, temperature or platt.
    """
    if kind == "none":
        return {}
    result: Calibration = {}
    truth, known = np.asarray(truth).astype(bool), np.asarray(known).astype(bool)
    groups = np.asarray(activities)
    for c, name in enumerate(names):
        keep = known[:, c]
        counts = [len(set(groups[keep & (truth[:, c] == present)])) for present in (True, False)]
        if min(counts) >= MIN_ACTIVITIES:
            result[name] = fit_one(logit(score[keep, c]), truth[keep, c], offset=kind == "platt")
    return result


def fit_one(x: np.ndarray, truth: np.ndarray, *, offset: bool) -> tuple[float, float]:
    """(slope, offset) of least cross-entropy against Platt's targets, by Newton's method with step halving.

    Args:
      x: float[U], logits.
      truth: bool[U], with both kinds.
      offset: fit one, too; else it is 0.
    """
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    design = np.stack([x, np.ones_like(x)], axis=1)[:, : 2 if offset else 1]
    weights = np.array([1.0, 0.0])[: design.shape[1]]

    def loss(w: np.ndarray) -> float:
        z = design @ w
        return float(np.logaddexp(0, z).sum() - (target * z).sum())

    for _ in range(_ITERATIONS):
        p = 0.5 * (1 + np.tanh(0.5 * (design @ weights)))
        gradient = design.T @ (p - target)
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + 1e-9 * np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-6 and loss(weights - size * step) > loss(weights):
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    slope = float(np.clip(weights[0], *_SLOPES))  # a class whose scores rank the wrong way is not turned round
    if not offset:
        return slope, 0.0
    return slope, float(weights[1]) if slope == weights[0] else _offset(slope * x, target)


def _offset(z: np.ndarray, target: np.ndarray) -> float:
    """The offset beside a slope that is given: where the mean probability is that of the target."""

    def excess(offset: float) -> float:
        return float((0.5 * (1 + np.tanh(0.5 * (z + offset))) - target).mean())

    root: Any = brentq(excess, -float(z.max()) - 40.0, -float(z.min()) + 40.0)
    return float(root)


def shrunk_probabilities(score: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """float64[U]: scores after the most probable recalibration of their logits, a slope and an offset.

    Before the labels are seen the slope's logarithm and the offset are normal about nought (`_PRIOR`): with few labels
    the scores stay what they are, with many this is Platt scaling. Labels may all be of one kind.

    Args:
      score: float[U] in [0, 1]. truth: bool[U].
      weight: float[U], what each frame counts; 1 / (frames of its activity) has each activity count once.
    """
    x, y, precision = logit(score), np.asarray(truth, np.float64), 1 / np.square(_PRIOR)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope = np.exp(parameters[0])
        z = slope * x + parameters[1]
        value = weight @ (np.logaddexp(0, z) - y * z) + precision @ np.square(parameters) / 2
        excess = weight * (expit(z) - y)
        return float(value), np.array([excess @ x * slope, excess.sum()]) + precision * parameters

    found = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    return expit(np.exp(found[0]) * x + found[1])


def calibrate(score: np.ndarray, names: Sequence[str], calibration: Mapping[str, Sequence[float]]) -> np.ndarray:
    """float32[..., C]: scores in [0, 1] after calibration; the order within a class stays."""
    if not calibration:
        return score
    slope, offset = np.array([calibration.get(name, (1.0, 0.0)) for name in names], np.float64).T
    z = slope * logit(score) + offset
    changed = (0.5 * (1 + np.tanh(0.5 * z))).astype(np.float32)
    return np.where([name in calibration for name in names], changed, score)
