"""Factuality of the sentences of one task of one source, on the split and on resamples at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlm_jax.contract import Record
from vlm_jax.evaluation.intervals import Groups, Samples
from vlm_jax.metrics.facts import ATTRIBUTES, facts_of
from vlm_jax.metrics.factuality import COUNTS, SCORES, fact_counts, fact_scores, scene_counts

WITHIN = "factuality"
ROWS = (*(f"{name}/" for name in ATTRIBUTES), "")
SCENE_ROWS = ("scene/landmark/", "scene/laterality/")


def fact_samples(
    predictions: Sequence[str],
    references: Sequence[tuple[str, ...]],
    groups: Groups,
    labels: tuple[str, ...] = (),
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Samples:
    """`<attribute>/<score>` and `<score>` of all facts together, against the references of each unit."""
    pairs = zip(predictions, references, strict=True)
    counts = np.stack([fact_counts(p, refs, labels) for p, refs in pairs])
    return _samples(counts, np.ones(len(counts)), ROWS, groups, resamples, seed)


def scene_samples(
    predictions: Sequence[str],
    records: Sequence[Record],
    groups: Groups,
    labels: tuple[str, ...],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Samples:
    """`scene/landmark/<score>` and `scene/laterality/<score>`: descriptions against what is in view.

    The scene's structures are the record's labels, its side is the one that the reference description names.

    Args:
      predictions, records, groups: of units whose labels are all known (`judged`), one at least.
    """
    counts = np.zeros((len(records), len(SCENE_ROWS), len(COUNTS)))
    for i, record in enumerate(records):
        in_view = [name for name, label in zip(labels, record.landmarks or (), strict=True) if label == 1]
        sides = facts_of(record.description or "", labels).laterality
        counts[i] = scene_counts(predictions[i], in_view, sides, labels)
    return _samples(counts, np.ones(len(counts)), SCENE_ROWS, groups, resamples, seed)


def judged(record: Record) -> bool:
    """Whether it is known of every structure if it is in view."""
    return bool(record.landmarks) and None not in (record.landmarks or ())


def _samples(
    counts: np.ndarray, units: np.ndarray, rows: Sequence[str], groups: Groups, resamples: int, seed: int
) -> Samples:
    sums, numbers = groups.sums(counts), groups.sums(units)

    def fn(weights: np.ndarray) -> np.ndarray:
        total = np.tensordot(weights, sums, axes=1)
        return fact_scores(total, (weights @ numbers)[:, None]).reshape(len(weights), -1)

    names = [f"{row}{score}" for row in rows for score in SCORES]
    return Samples.draw(names, fn, len(groups), resamples=resamples, seed=seed)
