"""What a class's score stands on, and the floor of shuffled sentences."""

from __future__ import annotations

import numpy as np
import pytest

from vlm_jax.evaluation.intervals import Groups
from vlm_jax.evaluation.label_scores import LabelUnits, Support, label_samples
from vlm_jax.evaluation.scoring import Scope
from vlm_jax.evaluation.text_scores import TextUnits, shuffled, shuffled_samples, text_samples
from vlm_jax.metrics.similarity import TfidfSimilarity, best_cosine


@pytest.fixture
def units() -> LabelUnits:
    """Eight groups of two frames: `often` in all, `rare` in five groups, `partly` known in seven groups of eight."""
    truth = np.array([[True, g < 5, g % 7 < 6] for g in range(8) for _ in range(2)])
    truth[::2] = False
    known = np.ones_like(truth)
    known[14:, 2] = False
    return LabelUnits(("often", "rare", "partly"), truth, known, Groups.build([f"g{i // 2}" for i in range(16)]))


def test_the_support_of_a_class(units):
    assert units.support == {"often": Support(16, 8, 8), "rare": Support(16, 8, 5), "partly": Support(14, 7, 6)}


def test_a_class_in_few_groups_has_no_interval_and_counts_its_own_groups(units):
    score = np.random.default_rng(0).random((16, 3))
    samples = label_samples(units, score, [0.5] * 3, resamples=100)
    scope = Scope("toy", "landmarks", "simulated", 16, len(units.groups), "patient", units.support)
    entries = scope.entries(samples)
    assert all(entry["group_level"] == "patient" for entry in entries.values())
    rare, partly = (entries[f"toy/landmarks/class/{name}/ap"] for name in ("rare", "partly"))
    assert rare["value"] is not None and rare["low"] is None and rare["high"] is None and rare["n_groups"] == 8
    assert partly["low"] is not None and (partly["n_groups"], partly["n_units"]) == (7, 14)
    whole = entries["toy/landmarks/f1_macro"]
    assert whole["low"] is not None and (whole["n_groups"], whole["n_units"]) == (8, 16)


def test_the_floor_of_shuffled_sentences_is_the_mean_of_many_deals():
    said = [f"word{i % 5} of {i}" for i in range(12)]
    similarity = TfidfSimilarity(said)
    units = TextUnits(tuple((text,) for text in said), Groups.build([str(i % 6) for i in range(12)]), (similarity,))
    floor = shuffled_samples(units, said, resamples=50, seed=3)
    deals = [[said[i] for i in shuffled(12, 4 + k)] for k in range(20)]
    expected = [best_cosine(similarity, deal, units.references).mean() for deal in deals]
    assert floor.names == ("cosine_tfidf",) and len(set(expected)) > 1
    assert floor.get("cosine_tfidf") == pytest.approx(np.mean(expected))
    assert floor.get("cosine_tfidf") < text_samples(units, said, resamples=0).get("cosine_tfidf")
    assert floor.estimate("cosine_tfidf").low is not None
