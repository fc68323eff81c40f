"""Decision thresholds per class, chosen on validation groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlm_jax.contract import LabelSpace
from vlm_jax.metrics.classification import counts_of, precision_recall_curve, scores

MIN_ACTIVITIES = 10
"""With fewer activities than this of either kind, with the class and without it, its own optimum is noise: it is shrunk
towards the global threshold. (Of a class that is in every frame any threshold below the lowest score is optimal.)"""
_GRID = np.arange(0.01, 1.0, 0.01)


def best_threshold(score: np.ndarray, truth: np.ndarray) -> float | None:
    """The threshold (present where score >= it) of the highest F1; None without a positive.

    It lies midway to the next lower score, so that it does not hang on one frame. Arrays are float[U] and bool[U].
    """
    if not np.asarray(truth).any():
        return None
    precision, recall, cut = precision_recall_curve(score, truth)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1))
    lower = cut[best + 1] if best + 1 < len(cut) else 0.0
    return float((cut[best] + lower) / 2)


def global_threshold(score: np.ndarray, truth: np.ndarray, known: np.ndarray) -> float | None:
    """One threshold for all classes [U, C]: the highest macro F1 on a grid of hundredths; None without any positive."""
    if not (np.asarray(truth).astype(bool) & known).any():
        return None
    macro = [float(scores(counts_of(truth, score >= t, known).sum(0)).f1_macro) for t in _GRID]
    best = np.flatnonzero(np.isclose(macro, np.max(macro)))
    return float(_GRID[best[np.argmin(np.abs(_GRID[best] - 0.5))]])


def choose_thresholds(
    score: np.ndarray, truth: np.ndarray, known: np.ndarray, activities: Sequence[str], labels: LabelSpace
) -> dict[str, float | None]:
    """Per class the F1-optimal threshold, shrunk linearly to its source's global one where activities are few.

    Args:
      score: float[U, C] in [0, 1], of validation frames. truth, known: bool[U, C].
      activities: U names, the same for frames of one activity.
      labels: names of the C columns, scoped by source.

    Returns:
      {label name: threshold}; None where the source has no known positive or the class is not known there at all.
    """
    truth, known = np.asarray(truth).astype(bool), np.asarray(known).astype(bool)
    names = np.asarray(activities)
    result: dict[str, float | None] = {}
    for source in dict.fromkeys(n.split("/", 1)[0] for n in labels.names):
        slots = labels.slots(source)
        shared = global_threshold(score[:, slots], truth[:, slots], known[:, slots])
        for c in slots:
            keep = known[:, c]
            own = best_threshold(score[keep, c], truth[keep, c])
            fewest = min(len(set(names[keep & (truth[:, c] == present)])) for present in (True, False))
            weight = min(1.0, fewest / MIN_ACTIVITIES)
            undefined = shared is None or not keep.any()
            blend = None if shared is None else weight * (own or 0.0) + (1 - weight) * shared
            result[labels.names[c]] = None if undefined else blend
    return result
