"""Labels against scikit-learn on random inputs, with unknown labels and classes without a positive."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from vlm_jax.metrics.classification import (
    LabelState,
    average_precision,
    average_precisions,
    counts_of,
    mean_of_defined,
    precision_recall_curve,
    sample_f1_of,
    scores,
)


def _random(seed: int, units: int = 80, classes: int = 6):
    rng = np.random.default_rng(seed)
    truth = rng.random((units, classes)) < rng.uniform(0.05, 0.7, classes)
    score = np.round(rng.random((units, classes)), 1)  # rounding makes ties
    return truth, score, np.ones_like(truth)


@pytest.mark.parametrize("seed", range(5))
def test_averages_equal_scikit_learn(seed):
    truth, score, known = _random(seed)
    predicted = score >= 0.5
    own = LabelState.from_predictions(truth, predicted, known).compute()
    for average in ("macro", "micro", "weighted"):
        expected = sk.f1_score(truth, predicted, average=average, zero_division=0)
        assert own[f"f1_{average}"] == pytest.approx(expected, abs=1e-6)
    samples = sk.f1_score(truth, predicted, average="samples", zero_division=np.nan)
    assert own["f1_sample"] == pytest.approx(samples, abs=1e-6)
    assert own["precision_macro"] == pytest.approx(sk.precision_score(truth, predicted, average="macro"), abs=1e-6)
    assert own["recall_macro"] == pytest.approx(sk.recall_score(truth, predicted, average="macro"), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_unknown_labels_are_never_counted(seed):
    truth, score, _ = _random(seed)
    known = np.random.default_rng(seed + 100).random(truth.shape) < 0.6
    own = scores(counts_of(truth, score >= 0.5, known).sum(0))
    ap = average_precisions(score, truth, known)[0]
    for c in range(truth.shape[1]):
        keep = known[:, c]
        assert own.f1[c] == pytest.approx(sk.f1_score(truth[keep, c], score[keep, c] >= 0.5), abs=1e-6)
        assert ap[c] == pytest.approx(sk.average_precision_score(truth[keep, c], score[keep, c]), abs=1e-6)
    flipped = np.where(known, truth, ~truth)
    np.testing.assert_array_equal(own.f1, scores(counts_of(flipped, score >= 0.5, known).sum(0)).f1)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_with_weights_equals_scikit_learn(seed):
    truth, score, known = _random(seed)
    weights = np.random.default_rng(seed).integers(0, 4, (7, len(truth))).astype(float)
    own = average_precisions(score, truth, known, weights)
    blocks = np.stack([average_precision(score[:, c], truth[:, c], weights, cells=100) for c in range(6)], axis=1)
    np.testing.assert_allclose(own, blocks)
    for r in range(7):
        for c in range(6):
            expected = sk.average_precision_score(truth[:, c], score[:, c], sample_weight=weights[r])
            assert own[r, c] == pytest.approx(expected, abs=1e-6)


def test_few_distinct_scores_take_the_short_way_to_the_same_value():
    truth, _, known = _random(2)
    groups, weights = np.arange(len(truth)) % 4, np.array([[1.0, 0, 2, 1], [0, 3, 0, 1]])
    for score in (np.full(truth.shape, 0.4), np.round(np.random.default_rng(0).random(truth.shape))):
        own = average_precisions(score, truth, known, weights, groups)
        for r, c in np.ndindex(own.shape):
            expected = sk.average_precision_score(truth[:, c], score[:, c], sample_weight=weights[r, groups])
            assert own[r, c] == pytest.approx(expected, abs=1e-6)


def test_group_weights_stand_for_all_units_of_a_group():
    truth, score, known = _random(1)
    groups = np.arange(len(truth)) % 4
    weights = np.array([[1.0, 0, 2, 1]])
    by_group = average_precisions(score, truth, known, weights, groups)
    np.testing.assert_allclose(by_group, average_precisions(score, truth, known, weights[:, groups]))


def test_a_class_without_a_positive_is_left_out_of_macro():
    truth = np.array([[1, 0], [0, 0], [1, 0]], bool)
    predicted = np.array([[1, 1], [0, 0], [1, 0]], bool)
    own = scores(counts_of(truth, predicted, np.ones_like(truth)).sum(0))
    assert np.isnan(own.f1[1]) and np.isnan(own.precision[1])
    assert own.f1_macro == own.f1_weighted == 1.0
    assert own.f1_micro == pytest.approx(2 * 2 / (2 * 2 + 1))  # the false alarm counts
    ap = average_precisions(predicted.astype(float), truth, np.ones_like(truth))[0]
    assert np.isnan(ap[1]) and mean_of_defined(ap) == 1.0


def test_a_constant_score_has_the_prevalence_as_average_precision():
    truth = np.array([1, 0, 0, 1, 0], bool)
    assert average_precision(np.full(5, 0.3), truth)[0] == pytest.approx(0.4)


def test_nothing_is_undefined_not_zero():
    assert all(np.isnan(v) for v in LabelState.empty(3).compute().values())
    assert np.isnan(average_precision(np.zeros(0), np.zeros(0, bool))[0])
    assert np.isnan(average_precision(np.ones(2), np.zeros(2, bool))[0])
    assert np.isnan(sample_f1_of(counts_of(np.zeros((1, 2)), np.zeros((1, 2)), np.ones((1, 2)))))[0]


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(1, 79), seed=st.integers(0, 50))
def test_states_merge_to_the_whole(cut, seed):
    truth, score, known = _random(seed)
    known = np.random.default_rng(seed).random(truth.shape) < 0.8
    whole = LabelState.from_predictions(truth, score > 0.4, known)
    parts = [LabelState.from_predictions(truth[s], score[s] > 0.4, known[s]) for s in (slice(cut), slice(cut, None))]
    assert (parts[0] | parts[1]).compute() == pytest.approx(whole.compute(), nan_ok=True)
    assert parts[0].merge(parts[1]).compute() == pytest.approx(parts[1].merge(parts[0]).compute(), nan_ok=True)


def test_precision_recall_curve_equals_scikit_learn():
    truth, score, _ = _random(3)
    precision, recall, cut = precision_recall_curve(score[:, 0], truth[:, 0])
    expected_precision, expected_recall, expected_cut = sk.precision_recall_curve(truth[:, 0], score[:, 0])
    np.testing.assert_allclose(precision, expected_precision[-2::-1])
    np.testing.assert_allclose(recall, expected_recall[-2::-1])
    np.testing.assert_allclose(cut, expected_cut[::-1])
