"""Scores of the landmarks of one source: every average and every class, on the split and on resamples at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlm_jax.evaluation.intervals import MIN_GROUPS, Groups, MetricFn, Samples, weighted_mean
from vlm_jax.metrics.classification import average_precisions, counts_of, mean_of_defined, sample_f1_of, scores

AVERAGES = ("f1_macro", "f1_micro", "f1_weighted", "f1_sample", "precision_macro", "recall_macro")
PER_CLASS = ("f1", "precision", "recall", "ap")


@dataclass(frozen=True)
class Support:
    """What the scores of one class stand on: units and groups in which it is known, groups in which it is present."""

    units: int
    groups: int
    positive_groups: int

    @property
    def enough(self) -> bool:
        """Whether the class is present in so many groups that its scores get an interval."""
        return self.positive_groups >= MIN_GROUPS


@dataclass(frozen=True)
class LabelUnits:
    """What is true of the U frames of one source.

    Attributes:
      names: bare names of the C classes.
      truth, known: bool[U, C].
      groups: of the frames.
      models: int[U], which model scored each frame; None = one model scored all.
    """

    names: tuple[str, ...]
    truth: np.ndarray
    known: np.ndarray
    groups: Groups
    models: np.ndarray | None = None

    @property
    def positives(self) -> np.ndarray:
        """int[C]: known positives."""
        return (self.truth & self.known).sum(0)

    @property
    def negatives(self) -> np.ndarray:
        """int[C]: known negatives."""
        return (~self.truth & self.known).sum(0)

    @property
    def undefined(self) -> tuple[str, ...]:
        """Classes without a positive: no system is scored on them."""
        return tuple(n for n, p in zip(self.names, self.positives, strict=True) if p == 0)

    @property
    def support(self) -> dict[str, Support]:
        """Of each class, by name."""
        units = self.known.sum(0)
        groups, positive = (
            (self.groups.sums(of.astype(float)) > 0).sum(0) for of in (self.known, self.truth & self.known)
        )
        columns = zip(units.tolist(), groups.tolist(), positive.tolist(), strict=True)
        return {name: Support(*numbers) for name, numbers in zip(self.names, columns, strict=True)}

    @property
    def two_sided(self) -> np.ndarray:
        """bool[C]: classes with positives and negatives; on the others a constant answer is perfect."""
        return (self.positives > 0) & (self.negatives > 0)

    @property
    def prevalence(self) -> np.ndarray:
        """float[C]: share of positives among the known; nan where nothing is known."""
        return weighted_mean(self.positives.astype(float), self.known.sum(0).astype(float))


def decide(score: np.ndarray, thresholds: Sequence[float | None]) -> np.ndarray:
    """bool[U, C]: present where score >= threshold; a class without a threshold (abstained) is never present."""
    cut = np.array([np.inf if t is None else t for t in thresholds], dtype=float)
    return score >= cut


def metric_names(classes: Sequence[str]) -> tuple[str, ...]:
    """The columns of `label_samples`, as they stand in metrics.json behind `<source>/landmarks/`."""
    at_half = tuple(f"{a}_at_0.5" for a in AVERAGES)
    per_class = tuple(f"class/{c}/{m}" for m in PER_CLASS for c in classes)
    return (*AVERAGES, "f1_macro_two_sided", *at_half, "map", "map_two_sided", *per_class)


def label_samples(
    units: LabelUnits,
    score: np.ndarray,
    thresholds: Sequence[float | None],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Samples:
    """All metrics of one system: score float[U, C] in [0, 1]; thresholds C values, None = abstained."""
    return decided_samples(units, score, decide(score, thresholds), resamples=resamples, seed=seed)


def decided_samples(
    units: LabelUnits, score: np.ndarray, chosen: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> Samples:
    """As `label_samples`, with the decisions bool[U, C] as given: pooled folds have thresholds of their own."""
    fn = _metric_fn(units, score, chosen, score >= 0.5)
    return Samples.draw(metric_names(units.names), fn, len(units.groups), resamples=resamples, seed=seed)


def _metric_fn(units: LabelUnits, score: np.ndarray, chosen: np.ndarray, half: np.ndarray) -> MetricFn:
    tuned, at_half = _averages(units, chosen), _averages(units, half)
    two_sided = units.two_sided

    def fn(weights: np.ndarray) -> np.ndarray:
        averages, f1, precision, recall = tuned(weights)
        ap = _within_models(units, score, weights)
        maps = np.stack([mean_of_defined(ap), mean_of_defined(ap[:, two_sided])], axis=1)
        f1_two_sided = mean_of_defined(f1[:, two_sided])[:, None]
        return np.concatenate([averages, f1_two_sided, at_half(weights)[0], maps, f1, precision, recall, ap], axis=1)

    return fn


def _within_models(units: LabelUnits, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float[R, C]: average precision that compares only scores of one model, weighted by each model's positives.

    Models do not share a scale: one that scores all its frames a little higher would else rank first. Weights by
    positives make it a mean over the positives of all frames, of the precision among its own model's frames.
    """
    if units.models is None:
        return average_precisions(score, units.truth, units.known, weights, units.groups.of)
    total, number = np.zeros((2, len(weights), score.shape[1]))
    for model in np.unique(units.models):
        rows = np.flatnonzero(units.models == model)
        truth, known, groups = units.truth[rows], units.known[rows], units.groups.of[rows]
        found = average_precisions(score[rows], truth, known, weights, groups)
        positives = weights @ Groups(units.groups.names, groups).sums((truth & known).astype(float))
        total, number = total + np.nan_to_num(found) * positives, number + positives
    return weighted_mean(total, number)


def _averages(units: LabelUnits, predicted: np.ndarray):
    """fn(weights) -> (averages [R, 6] in the order of `AVERAGES`, f1, precision, recall [R, C])."""
    counts = counts_of(units.truth, predicted, units.known)
    sample = sample_f1_of(counts)
    defined = ~np.isnan(sample)
    class_sums = units.groups.sums(counts)
    sample_sums = units.groups.sums(np.stack([np.where(defined, sample, 0.0), defined.astype(float)], axis=1))

    def fn(weights: np.ndarray):
        s = scores(np.tensordot(weights, class_sums, axes=1))
        total = weights @ sample_sums
        f1_sample = weighted_mean(total[:, 0], total[:, 1])
        averages = [s.f1_macro, s.f1_micro, s.f1_weighted, f1_sample, s.precision_macro, s.recall_macro]
        return np.stack(averages, axis=1), s.f1, s.precision, s.recall

    return fn
