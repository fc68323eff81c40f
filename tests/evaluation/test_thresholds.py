"""Thresholds against a search over all cuts and worlds drawn at random; what is believed of a frame, and new frames."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from vlm_jax.contract import LabelSpace
from vlm_jax.evaluation.thresholds import believed, best_threshold, choose_thresholds
from vlm_jax.metrics.calibration import shrunk_probabilities

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


def _inputs(n_activities: int):
    """Class a parts at 0.25, b at 0.75; every activity has one positive and one negative frame of each."""
    score = np.tile([[0.3, 0.8, 0.5], [0.2, 0.7, 0.5]], (n_activities, 1))
    truth = np.tile([[1, 1, 0], [0, 0, 0]], (n_activities, 1)).astype(bool)
    return score, truth, np.ones_like(truth), [f"a{i // 2}" for i in range(2 * n_activities)]


def test_with_much_validation_the_threshold_is_that_of_the_labels():
    score, truth, known, activities = _inputs(400)
    for counts in (NOTHING, (np.full(3, 90), np.full(3, 10))):
        chosen = choose_thresholds(score, truth, known, activities, LABELS, counts)
        assert chosen["fess/a"] == pytest.approx(0.25) and chosen["fess/b"] == pytest.approx(0.75)


def test_what_is_believed_of_a_frame():
    """Three of five activities have the class, four known frames; training has it in six of ten records."""
    score, truth = np.array([0.9, 0.8, 0.6, 0.3, 0.2, 0.1]), np.array([1, 1, 1, 0, 1, 0], bool)
    activities = np.array(["a", "a", "b", "c", "d", "e"])
    own = shrunk_probabilities(score, truth, np.array([0.5, 0.5, 1, 1, 1, 1]))
    two_lack_it, of_five = 2 / (2 + 100), 5 / (5 + 10)
    alone = two_lack_it * truth + (1 - two_lack_it) * own
    np.testing.assert_allclose(believed(score, truth, activities), alone)
    shared = two_lack_it * truth + (1 - two_lack_it) * (of_five * own + (1 - of_five) * 0.6)
    np.testing.assert_allclose(believed(score, truth, activities, 0.6), shared)


def test_frames_of_one_activity_are_one_activity():
    """A video read at twice the rate says nothing new."""
    score, truth = np.array([0.9, 0.5, 0.4, 0.2]), np.array([1, 1, 0, 0], bool)
    activities = np.array(["a", "b", "c", "d"])
    twice = believed(score.repeat(2), truth.repeat(2), activities.repeat(2), 0.3)
    np.testing.assert_allclose(twice[::2], believed(score, truth, activities, 0.3), rtol=1e-4)
    apart = believed(score.repeat(2), truth.repeat(2), np.array(list("abcdefgh")), 0.3)
    assert np.abs(apart - twice).max() > 0.01


def test_new_procedures_are_answered_better_than_by_the_best_threshold_on_validation():
    """Drawn classes whose scores are probabilities: what is best on 12 activities is so by chance in part."""
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(200):
        share, sharp = rng.uniform(0.05, 0.6), rng.uniform(0.7, 2.5)
        truth = rng.random(2000) < share
        x = (2 * truth - 1) * sharp / 2 + rng.normal(size=2000)
        score = 1 / (1 + np.exp(-sharp * x - np.log(share / (1 - share))))
        names = np.arange(12).repeat(2).astype(str)
        if truth[:24].any():
            by_labels = best_threshold(score[:24], truth[:24])
            ours = best_threshold(score[:24], believed(score[:24], truth[:24], names, share))
            gains.append(np.diff([f1_score(truth[24:], score[24:] >= t) for t in (by_labels, ours)])[0])
    assert np.mean(gains) > 3 * np.std(gains) / len(gains) ** 0.5 > 0


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


def test_a_class_without_a_positive_in_validation_has_a_threshold_where_its_source_has_one():
    score, truth, known, activities = _inputs(10)
    truth[:, 1] = False
    chosen = choose_thresholds(score, truth, known, activities, LABELS, NOTHING)
    assert chosen["fess/b"] is not None and 0 < chosen["fess/b"] < 0.8
    assert chosen["larynx/c"] is None  # nothing positive in that source


def test_what_validation_does_not_know_has_no_threshold():
    score, truth, known, activities = _inputs(10)
    known[:, 0] = False
    chosen = choose_thresholds(score, truth, known, activities, LABELS, NOTHING)
    assert chosen["fess/a"] is None and chosen["fess/b"] is not None
