"""Multi-label classification: precision, recall, F1 and average precision, with labels that may be unknown.

Every formula takes sums with any leading axes, so that one call scores a split, its groups or a thousand resamples.
A class without a positive is undefined: it is left out of macro, weighted and mean average precision, for every system
alike. The conventions are scikit-learn's with `zero_division=0` for defined classes and `nan` for undefined ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COUNTS = 4
"""Sums per class, in this order: true positives, false positives, false negatives, known labels."""


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b with nan where b is 0."""
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b > 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is defined; nan where nothing is, without a warning."""
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0.0).sum(-1), known.sum(-1).astype(float))


def counts_of(truth: np.ndarray, predicted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Sums per class of each unit.

    Args:
      truth: bool or int [U, C]; arbitrary where not known.
      predicted: bool [U, C].
      known: bool [U, C]; False = never counted.

    Returns:
      float64[U, C, 4]: true positives, false positives, false negatives, known.
    """
    truth, predicted, known = (np.asarray(x).astype(bool) for x in (truth, predicted, known))
    parts = (truth & predicted & known, ~truth & predicted & known, truth & ~predicted & known, known)
    return np.stack(parts, axis=-1).astype(np.float64)


def sample_f1_of(counts: np.ndarray) -> np.ndarray:
    """F1 of each unit over its classes, from `counts_of` [U, C, 4]: float[U], nan where nothing is there."""
    tp, fp, fn = (counts[..., i].sum(-1) for i in range(3))
    return _divide(2 * tp, 2 * tp + fp + fn)


@dataclass(frozen=True)
class LabelScores:
    """What `scores` returns; arrays keep the leading axes of the sums, per-class ones add the class axis C."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    precision_macro: np.ndarray
    recall_macro: np.ndarray
    f1_macro: np.ndarray
    f1_micro: np.ndarray
    f1_weighted: np.ndarray


def scores(counts: np.ndarray) -> LabelScores:
    """All averages from summed counts float[..., C, 4].

    Micro counts every known cell, those of undefined classes included: a false alarm there is a false alarm.
    """
    tp, fp, fn = (counts[..., i] for i in range(3))
    positives = tp + fn
    defined = positives > 0
    precision = np.where(defined, np.nan_to_num(_divide(tp, tp + fp)), np.nan)
    recall = _divide(tp, positives)
    f1 = np.where(defined, np.nan_to_num(_divide(2 * tp, 2 * tp + fp + fn)), np.nan)
    total_tp, errors = tp.sum(-1), (fp + fn).sum(-1)
    micro = np.where(positives.sum(-1) > 0, _divide(2 * total_tp, 2 * total_tp + errors), np.nan)
    weighted = _divide((np.nan_to_num(f1) * positives).sum(-1), positives.sum(-1))
    macro = {f"{n}_macro": mean_of_defined(m) for n, m in (("precision", precision), ("recall", recall), ("f1", f1))}
    return LabelScores(precision, recall, f1, **macro, f1_micro=micro, f1_weighted=weighted)


def average_precision(
    score: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    *,
    cells: int = 4_000_000,
) -> np.ndarray:
    """Average precision of one class under several weightings of its units at once.

    Args:
      score: float[U], higher = more likely; only units whose label is known.
      truth: bool[U].
      weights: float[R, U], or float[R, G] with `groups`; None = one row of ones.
      groups: int[U], the column of `weights` that holds for a unit; None = its own.
      cells: how many numbers a block of rows may hold (memory).

    Returns:
      float[R]: sum over distinct thresholds of (recall step) x precision; nan where a row has no positive.
    """
    groups = np.arange(len(score)) if groups is None else groups
    weights = np.ones((1, len(score))) if weights is None else np.asarray(weights, float)
    if not len(score):
        return np.full(len(weights), np.nan)
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # last unit of each run of equal scores
    positive, columns = np.asarray(truth)[order].astype(float), np.asarray(groups)[order]
    if weights.shape[1] * len(ends) <= len(
        order
    ):  # few distinct scores, a constant answer say: add up their units first
        run = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
        cell, size = columns * len(ends) + run, weights.shape[1] * len(ends)
        kept, hits = (np.bincount(cell, w, size).reshape(-1, len(ends)) for w in (np.ones(len(order)), positive))
        return _ap_steps(np.cumsum(weights @ kept, axis=1), np.cumsum(weights @ hits, axis=1))
    rows = max(1, cells // len(order))
    blocks = (weights[i : i + rows][:, columns] for i in range(0, len(weights), rows))
    return np.concatenate(
        [_ap_steps(np.cumsum(b, axis=1)[:, ends], np.cumsum(b * positive, axis=1)[:, ends]) for b in blocks]
    )


def _ap_steps(kept: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """float[R] from the units and the positives at or above each distinct score, [R, D]."""
    steps = np.diff(hits, axis=1, prepend=0.0)
    return _divide((np.nan_to_num(_divide(hits, kept)) * steps).sum(1), hits[:, -1])


def average_precisions(
    score: np.ndarray,
    truth: np.ndarray,
    known: np.ndarray,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """float[R, C]: average precision of each class of [U, C] scores; weights and groups as in `average_precision`.

    Mean average precision is the mean of its defined entries.
    """
    rows = 1 if weights is None else len(weights)
    owner = np.arange(len(score)) if groups is None else groups
    table = np.full((rows, score.shape[1]), np.nan)
    for c in range(score.shape[1]):
        keep = np.asarray(known[:, c]).astype(bool)
        chosen = np.ones((1, len(score))) if weights is None else weights
        table[:, c] = average_precision(score[keep, c], truth[keep, c], chosen, owner[keep])
    return table


def precision_recall_curve(score: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and the threshold (predict where score >= threshold) at each distinct score, high to low.

    Args:
      score: float[U]. truth: bool[U] with at least one positive.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    hits = np.cumsum(np.asarray(truth)[order].astype(float))[ends]
    return hits / (ends + 1), hits / hits[-1], score[order][ends]


@dataclass(frozen=True)
class LabelState:
    """What batches come to when they are scored as they pass: a value that merges, as clu.metrics' states do.

    Plain numpy, on the host. `evaluation` sums the same counts by group instead, for it needs resamples.

    Attributes:
      counts: float64[C, 4], see `COUNTS`.
      sample_f1: (sum, number) of the per-unit F1 that are defined.
    """

    counts: np.ndarray
    sample_f1: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def empty(cls, n_classes: int) -> LabelState:
        return cls(np.zeros((n_classes, COUNTS)))

    @classmethod
    def from_predictions(cls, truth: np.ndarray, predicted: np.ndarray, known: np.ndarray) -> LabelState:
        """Arrays are [U, C]; see `counts_of`."""
        counts = counts_of(truth, predicted, known)
        per_unit = sample_f1_of(counts)
        defined = ~np.isnan(per_unit)
        return cls(counts.sum(0), (float(per_unit[defined].sum()), float(defined.sum())))

    def merge(self, other: LabelState) -> LabelState:
        total, number = (a + b for a, b in zip(self.sample_f1, other.sample_f1, strict=True))
        return LabelState(self.counts + other.counts, (total, number))

    __or__ = merge

    def compute(self) -> dict[str, float]:
        """The averages by name; nan where undefined."""
        s = scores(self.counts)
        total, number = self.sample_f1
        names = ("precision_macro", "recall_macro", "f1_macro", "f1_micro", "f1_weighted")
        return {n: float(getattr(s, n)) for n in names} | {"f1_sample": total / number if number else float("nan")}
