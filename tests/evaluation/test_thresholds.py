"""Thresholds against a search over all cuts, expected F1 against worlds drawn at random, and the shrinkage."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from vlm_jax.contract import LabelSpace
from vlm_jax.evaluation.thresholds import believed, best_threshold, choose_thresholds, global_threshold

LABELS = LabelSpace(("fess/a", "fess/b", "larynx/c"))
NOTHING = (np.zeros(3, int), np.zeros(3, int))
"""Training knows no label: validation is believed as it is."""


@pytest.mark.parametrize("seed", range(5))
def test_no_cut_beats_the_best_threshold(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.3
    score = np.clip(np.round(0.4 * truth + rng.random(60) * 0.7, 2), 0, 1)
    chosen = f1_score(truth, score >= best_threshold(score, truth))
    assert chosen == pytest.approx(max(f1_score(truth, score >= t) for t in np.unique(score)))


@pytest.mark.parametrize("seed", range(3))
def test_no_cut_has_a_higher_expected_f1(seed):
    """F1 of the expected counts comes close to the mean F1 of worlds in which each frame's label is drawn."""
    rng = np.random.default_rng(seed)
    score = np.round(rng.random(80), 2)
    belief = np.clip(score**2 + 0.1 * rng.normal(size=80), 0, 1)
    worlds = rng.random((2000, 80)) < belief

    def mean_f1(threshold):
        called = score >= threshold
        return np.mean(2 * (worlds & called).sum(1) / (worlds.sum(1) + called.sum()))

    reached = [mean_f1(t) for t in np.unique(score)]
    assert mean_f1(best_threshold(score, belief)) == pytest.approx(max(reached), abs=0.005)
    assert max(reached) - reached[-1] > 0.05 < max(reached) - reached[0], "any threshold would pass"


def test_the_threshold_lies_midway_to_the_next_score():
    assert best_threshold(np.array([0.9, 0.7, 0.3]), np.array([1, 1, 0], bool)) == pytest.approx(0.5)
    assert best_threshold(np.array([0.9, 0.8]), np.array([1, 1], bool)) == pytest.approx(0.4)
    assert best_threshold(np.array([0.9]), np.array([0], bool)) is None


def test_the_global_threshold_is_the_best_of_the_grid():
    rng = np.random.default_rng(0)
    truth = rng.random((50, 3)) < 0.4
    known = rng.random((50, 3)) < 0.8
    score = np.clip(0.3 * truth + 0.8 * rng.random((50, 3)), 0, 1)

    def macro(t):
        return np.mean([f1_score(truth[k, c], score[k, c] >= t) for c, k in enumerate(known.T)])

    chosen = global_threshold(score, truth, known)
    assert macro(chosen) == pytest.approx(max(macro(t) for t in np.arange(0.01, 1, 0.01)))
    assert global_threshold(score, truth & False, known) is None


def _inputs(n_activities: int):
    """Class a parts at 0.25, b at 0.75; every activity has one positive and one negative frame of each."""
    score = np.tile([[0.3, 0.8, 0.5], [0.2, 0.7, 0.5]], (n_activities, 1))
    truth = np.tile([[1, 1, 0], [0, 0, 0]], (n_activities, 1)).astype(bool)
    return score, truth, np.ones_like(truth), [f"a{i // 2}" for i in range(2 * n_activities)]


def test_many_positive_activities_need_no_shrinkage():
    score, truth, known, activities = _inputs(10)
    chosen = choose_thresholds(score, truth, known, activities, LABELS, NOTHING)
    assert chosen["fess/a"] == pytest.approx(0.25) and chosen["fess/b"] == pytest.approx(0.75)


def test_few_positive_activities_shrink_towards_the_global_threshold():
    score, truth, known, activities = _inputs(4)
    chosen = choose_thresholds(score, truth, known, activities, LABELS, NOTHING)
    shared = global_threshold(score[:, :2], truth[:, :2], known[:, :2])
    assert chosen["fess/a"] == pytest.approx(0.4 * 0.25 + 0.6 * shared)
    assert chosen["fess/b"] == pytest.approx(0.4 * 0.75 + 0.6 * shared)


def test_frames_of_one_activity_are_one_activity():
    score, truth, known, _ = _inputs(10)
    chosen = choose_thresholds(score, truth, known, ["same"] * 20, LABELS, NOTHING)
    shared = global_threshold(score[:, :2], truth[:, :2], known[:, :2])
    assert chosen["fess/a"] == pytest.approx(0.1 * 0.25 + 0.9 * shared)


def test_few_activities_without_the_class_shrink_as_well():
    score, truth, known, activities = _inputs(20)
    truth[:, 0] = np.arange(len(truth)) != 1  # one frame of forty is without it
    chosen = choose_thresholds(score, truth, known, activities, LABELS, NOTHING)
    shared = global_threshold(score[:, :2], truth[:, :2], known[:, :2])
    own = best_threshold(score[:, 0], truth[:, 0])
    assert own is not None and chosen["fess/a"] == pytest.approx(0.1 * own + 0.9 * shared)


def test_labels_of_few_activities_are_believed_in_part():
    truth = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0]], bool)
    known = np.array([[1, 1, 1], [1, 0, 1], [1, 0, 1]], bool)
    belief = believed(truth, known, np.array(["x", "x", "y"]), np.array([0.6, 0.2, np.nan]))
    two, one = 2 / 12, 1 / 11  # activities of a and of b; of c training knows nothing
    np.testing.assert_allclose(belief[:, 0], two * truth[:, 0] + (1 - two) * 0.6)
    np.testing.assert_allclose(belief[0, 1], one + (1 - one) * 0.2)
    np.testing.assert_allclose(belief[:, 2], 0)


def test_a_common_class_is_called_more_readily_than_validation_alone_would_have_it():
    """One short sequence says that a score of 0.5 means absent; nine of ten training frames have the class."""
    score = np.array([0.9, 0.8, 0.5, 0.5, 0.5])[:, None].repeat(3, 1)
    truth = np.array([1, 1, 0, 0, 0], bool)[:, None].repeat(3, 1)
    known, activities = np.ones_like(truth), list("abcde")
    counts = (np.array([90, 10, 0]), np.array([10, 90, 0]))
    common, rare, alone = (
        choose_thresholds(score, truth, known, activities, LABELS, c)["fess/a"]
        for c in (counts, (counts[0][::-1], counts[1]), NOTHING)
    )
    assert common < alone and rare == pytest.approx(alone, abs=0.2)


def test_with_much_validation_training_shares_do_not_matter():
    score, truth, known, activities = _inputs(400)
    chosen = choose_thresholds(score, truth, known, activities, LABELS, (np.full(3, 90), np.full(3, 10)))
    assert chosen["fess/a"] == pytest.approx(0.25) and chosen["fess/b"] == pytest.approx(0.75)


def test_a_class_without_a_positive_takes_the_global_threshold_of_its_own_source():
    score, truth, known, activities = _inputs(10)
    truth[:, 1] = False
    chosen = choose_thresholds(score, truth, known, activities, LABELS, NOTHING)
    assert chosen["fess/b"] == pytest.approx(global_threshold(score[:, :1], truth[:, :1], known[:, :1]))
    assert chosen["larynx/c"] is None  # nothing positive in that source


def test_what_validation_does_not_know_has_no_threshold():
    score, truth, known, activities = _inputs(10)
    known[:, 0] = False
    chosen = choose_thresholds(score, truth, known, activities, LABELS, NOTHING)
    assert chosen["fess/a"] is None and chosen["fess/b"] is not None
