"""Scores of the sentences of one task of one source, on the split and on resamples at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlm_jax.evaluation.intervals import Groups, Samples, weighted_mean
from vlm_jax.metrics.generation import BLEU_COUNTS, bleu2, bleu_counts, exact, rouge_l
from vlm_jax.metrics.similarity import Similarity, best_cosine


@dataclass(frozen=True)
class TextUnits:
    """What is true of the U units of one task of one source.

    Attributes:
      references: at least one a unit.
      groups: of the units.
      similarities: the cosines to report.
    """

    references: tuple[tuple[str, ...], ...]
    groups: Groups
    similarities: tuple[Similarity, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics, in the order of the columns."""
        return ("bleu2", "rouge_l", "exact", *(s.name for s in self.similarities))


def text_samples(units: TextUnits, predictions: Sequence[str], *, resamples: int = 1000, seed: int = 0) -> Samples:
    """All metrics of one system's sentences, one a unit."""
    columns = unit_columns(units.references, predictions, units.similarities)
    return column_samples(units.names, columns, units.groups, resamples=resamples, seed=seed)


def unit_columns(
    references: Sequence[tuple[str, ...]], predictions: Sequence[str], similarities: Sequence[Similarity]
) -> np.ndarray:
    """float[U, n]: what `column_samples` sums: counts of BLEU, then ROUGE-L, exact and the cosines of each unit."""
    pairs = list(zip(predictions, references, strict=True))
    columns = [
        np.stack([bleu_counts(p, refs) for p, refs in pairs]),
        np.array([[rouge_l(p, refs), exact(p, refs)] for p, refs in pairs]),
        *(best_cosine(s, predictions, references)[:, None] for s in similarities),
    ]
    return np.concatenate(columns, axis=1)


def column_samples(
    names: Sequence[str], columns: np.ndarray, groups: Groups, *, resamples: int = 1000, seed: int = 0
) -> Samples:
    """The metrics `names` from `unit_columns`: BLEU-2 of summed counts, means of the others."""
    sums = groups.sums(np.concatenate([columns, np.ones((len(columns), 1))], axis=1))

    def fn(weights: np.ndarray) -> np.ndarray:
        total = weights @ sums
        means = weighted_mean(total[:, BLEU_COUNTS:-1], total[:, -1:])
        return np.concatenate([bleu2(total[:, :BLEU_COUNTS])[:, None], means], axis=1)

    return Samples.draw(names, fn, len(groups), resamples=resamples, seed=seed)


def shuffled_samples(
    units: TextUnits, predictions: Sequence[str], *, resamples: int = 1000, seed: int = 0, deals: int = 20
) -> Samples:
    """The floor of every cosine: the same sentences dealt to the wrong units, each unit's mean over `deals` deals."""
    dealt = dealings(predictions, deals, seed)
    floors = np.stack([floor(s, dealt, units.references) for s in units.similarities], axis=1)
    names = [s.name for s in units.similarities]
    return mean_samples(names, floors, units.groups, resamples=resamples, seed=seed)


def mean_samples(
    names: Sequence[str], columns: np.ndarray, groups: Groups, *, resamples: int = 1000, seed: int = 0
) -> Samples:
    """The means over units of columns float[U, n]."""
    sums = groups.sums(np.concatenate([columns, np.ones((len(columns), 1))], axis=1))

    def fn(weights: np.ndarray) -> np.ndarray:
        total = weights @ sums
        return weighted_mean(total[:, :-1], total[:, -1:])

    return Samples.draw(names, fn, len(groups), resamples=resamples, seed=seed)


def dealings(predictions: Sequence[str], n: int, seed: int) -> list[list[str]]:
    """The sentences in `n` other orders, in each of which none stands where it stood (of two or more)."""
    orders = [shuffled(len(predictions), seed + 1 + k) for k in range(n)]  # `seed` itself draws the resamples
    return [[predictions[int(i)] for i in order] for order in orders]


def floor(similarity: Similarity, dealt: Sequence[Sequence[str]], references: Sequence[tuple[str, ...]]) -> np.ndarray:
    """float[U]: each unit's mean cosine over the sentences that it was dealt."""
    return np.mean([best_cosine(similarity, texts, references) for texts in dealt], axis=0)


def shuffled(n: int, seed: int) -> np.ndarray:
    """int[n]: a permutation that leaves no unit with its own (for n > 1)."""
    order = np.random.default_rng(seed).permutation(n)
    place = np.empty(n, dtype=np.int64)
    place[order] = np.roll(order, 1)
    return place
