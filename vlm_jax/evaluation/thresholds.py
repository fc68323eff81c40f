"""Decision thresholds per class, chosen on validation groups.

Validation is a few procedures, often a sequence or two: the threshold that was best on its labels is the best by chance
in part. A label therefore counts as a belief, and thresholds are of the highest F1 expected under it, 2 E[TP] /
(predicted + E[positives]) (Lipton et al. 2014, arXiv 1402.1892). What is believed of a frame is, in parts,

- its label, with weight m / (m + `MIN_OF_LABELS`), of m activities with the class or without it, whichever are fewer;
- else the model's own probability, recalibrated on the same frames (`metrics.calibration.shrunk_probabilities`): it
  says of every frame how sure one can be, where a label says yes or no;
- in place of this, with weight 1 - n / (n + `MIN_OF_SCORES`) of n activities, the class's share in training: what
  nobody has validated is called present, the best that can be done without knowledge.

With much validation this is the F1-optimal threshold of its labels. The two constants, and the prior of the
recalibration, were chosen on drawn scores of new patients (docs/decisions/thresholds.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlm_jax.contract import LabelSpace
from vlm_jax.metrics.calibration import shrunk_probabilities
from vlm_jax.metrics.classification import precision_recall_curve

MIN_OF_LABELS = 100
"""Activities of the rarer kind, with the class or without it, at which labels count as much as recalibrated scores."""
MIN_OF_SCORES = 10
"""Activities at which recalibrated scores count as much as the class's share in training."""


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


def believed(
    score: np.ndarray,
    truth: np.ndarray,
    activities: np.ndarray,
    share: float = float("nan"),
    *,
    of_labels: float = MIN_OF_LABELS,
    of_scores: float = MIN_OF_SCORES,
) -> np.ndarray:
    """float[U]: how sure one may be, after validation, that a class is in view of each frame (see above).

    Args:
      score: float[U] in [0, 1], of frames in which the class is known. truth: bool[U].
      activities: str[U], the same for frames of one activity.
      share: of the class in training, nan where training knows nothing of it.
      of_labels, of_scores: activities at which labels, and scores, count half.
    """
    names, place, frames = np.unique(activities, return_inverse=True, return_counts=True)
    probability = shrunk_probabilities(score, truth, 1 / frames[place])
    if not np.isnan(share):
        trust = len(names) / (len(names) + of_scores)
        probability = trust * probability + (1 - trust) * share
    fewest = min(len(np.unique(activities[truth == present])) for present in (True, False))
    weight = fewest / (fewest + of_labels)
    return weight * truth + (1 - weight) * probability


def choose_thresholds(
    score: np.ndarray,
    truth: np.ndarray,
    known: np.ndarray,
    activities: Sequence[str],
    labels: LabelSpace,
    label_counts: tuple[np.ndarray, np.ndarray],
) -> dict[str, float | None]:
    """Per class the threshold of the highest expected F1.

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
    result: dict[str, float | None] = {}
    for source in dict.fromkeys(n.split("/", 1)[0] for n in labels.names):
        slots = labels.slots(source)
        any_positive = bool((truth & known)[:, slots].any())
        for c in slots:
            keep, found = known[:, c], None
            if any_positive and keep.any():
                belief = believed(score[keep, c], truth[keep, c], names[keep], float(shares[c]))
                found = best_threshold(score[keep, c], belief)
            result[labels.names[c]] = found
    return result
