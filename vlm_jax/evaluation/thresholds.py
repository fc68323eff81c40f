"""Decision thresholds per class, chosen on validation groups.

Validation is often a sequence or two: what it says of a class holds elsewhere only so far. A label therefore counts as
a belief: with n activities in validation it is the label itself with weight n / (n + `MIN_ACTIVITIES`), and the class's
share in training with the rest. Thresholds are of the highest F1 expected under that belief, 2 E[TP] / (predicted +
E[positives]). With much validation this is the F1-optimal threshold; with none it calls everything present, the best
that can be done without knowledge (Lipton et al. 2014, arXiv 1402.1892).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlm_jax.contract import LabelSpace
from vlm_jax.metrics.classification import precision_recall_curve, scores

MIN_ACTIVITIES = 10
"""What is known before validation weighs as much as so many activities of it. And with fewer activities than this of
either kind, with the class and without it, the class's own optimum is noise: it is shrunk towards the global threshold.
(Of a class that is in every frame any threshold below the lowest score is optimal.)"""
_GRID = np.arange(0.01, 1.0, 0.01)


def best_threshold(score: np.ndarray, truth: np.ndarray) -> float | None:
    """The threshold (present where score >= it) of the highest F1; None without a positive.

    It lies midway to the next lower score, so that it does not hang on one frame. `score` is float[U]; `truth` is
    bool[U], or float[U] of probabilities, and F1 then that of the expected counts.
    """
    if not np.asarray(truth).any():
        return None
    precision, recall, cut = precision_recall_curve(score, truth)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1))
    lower = cut[best + 1] if best + 1 < len(cut) else 0.0
    return float((cut[best] + lower) / 2)


def global_threshold(score: np.ndarray, truth: np.ndarray, known: np.ndarray) -> float | None:
    """One threshold for all classes [U, C]: the highest macro F1 on a grid of hundredths; None without any positive.

    `truth` may hold probabilities, as in `best_threshold`.
    """
    belief = np.where(known, truth, 0.0).astype(float)
    if not belief.any():
        return None
    macro = [float(scores(_expected_counts(belief, score >= t, known)).f1_macro) for t in _GRID]
    best = np.flatnonzero(np.isclose(macro, np.max(macro)))
    return float(_GRID[best[np.argmin(np.abs(_GRID[best] - 0.5))]])


def _expected_counts(belief: np.ndarray, predicted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """float[C, 4] in the order of `metrics.classification.COUNTS`, from probabilities [U, C]."""
    called = predicted & known
    parts = (belief * called, (1 - belief) * called, belief * (known & ~called), known)
    return np.stack([part.sum(0).astype(float) for part in parts], axis=-1)


def believed(truth: np.ndarray, known: np.ndarray, activities: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """float[U, C]: each label of validation, shrunk towards the class's share in training (see above).

    Args:
      truth, known: bool[U, C]. activities: str[U]. shares: float[C], nan where training knows nothing of the class.
    """
    counts = np.array([len(set(activities[column].tolist())) for column in known.T])
    weight = np.where(np.isnan(shares), 1.0, counts / (counts + MIN_ACTIVITIES))
    return weight * truth + (1 - weight) * np.nan_to_num(shares)


def choose_thresholds(
    score: np.ndarray,
    truth: np.ndarray,
    known: np.ndarray,
    activities: Sequence[str],
    labels: LabelSpace,
    label_counts: tuple[np.ndarray, np.ndarray],
) -> dict[str, float | None]:
    """Per class the threshold of highest expected F1, shrunk to its source's global one where activities are few.

    Args:
      score: float[U, C] in [0, 1], of validation frames. truth, known: bool[U, C].
      activities: U names, the same for frames of one activity.
      labels: names of the C columns, scoped by source.
      label_counts: int[C] each, known positives and negatives in training.

    Returns:
      {label name: threshold}; None where the source has no known positive or the class is not known there at all.
    """
    truth, known = np.asarray(truth).astype(bool), np.asarray(known).astype(bool)
    names = np.asarray(activities)
    positives, seen = label_counts[0], label_counts[0] + label_counts[1]
    shares = np.divide(positives, seen, out=np.full(len(seen), np.nan), where=seen > 0)
    belief = believed(truth, known, names, shares)
    result: dict[str, float | None] = {}
    for source in dict.fromkeys(n.split("/", 1)[0] for n in labels.names):
        slots = labels.slots(source)
        any_positive = bool((truth & known)[:, slots].any())
        shared = global_threshold(score[:, slots], belief[:, slots], known[:, slots]) if any_positive else None
        for c in slots:
            keep = known[:, c]
            own = best_threshold(score[keep, c], belief[keep, c])
            fewest = min(len(set(names[keep & (truth[:, c] == present)])) for present in (True, False))
            weight = min(1.0, fewest / MIN_ACTIVITIES)
            undefined = shared is None or not keep.any()
            blend = None if shared is None else weight * (own or 0.0) + (1 - weight) * shared
            result[labels.names[c]] = None if undefined else blend
    return result
