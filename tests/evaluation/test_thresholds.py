"""Thresholds against a search over all cuts, and their shrinkage."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from vlm_jax.contract import LabelSpace
from vlm_jax.evaluation.thresholds import best_threshold, choose_thresholds, global_threshold

LABELS = LabelSpace(("fess/a", "fess/b", "larynx/c"))


@pytest.mark.parametrize("seed", range(5))
def test_no_cut_beats_the_best_threshold(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.3
    score = np.clip(np.round(0.4 * truth + rng.random(60) * 0.7, 2), 0, 1)
    chosen = f1_score(truth, score >= best_threshold(score, truth))
    assert chosen == pytest.approx(max(f1_score(truth, score >= t) for t in np.unique(score)))


def test_the_threshold_lies_midway_to_the_next_score():
    assert best_threshold(np.array([0.9, 0.7, 0.3]), np.array([1, 1, 0], bool)) == pytest.approx(0.5)
    assert best_threshold(np.array([0.9, 0.8]), np.array([1, 1], bool)) == pytest.approx(0.4)
    assert best_threshold(np.array([0.9]), np.array([0], bool)) is None


def _inputs(n_activities: int):
    """Class a parts at 0.25, b at 0.75; every activity has one positive and one negative frame of each."""
    score = np.tile([[0.3, 0.8, 0.5], [0.2, 0.7, 0.5]], (n_activities, 1))
    truth = np.tile([[1, 1, 0], [0, 0, 0]], (n_activities, 1)).astype(bool)
    return score, truth, np.ones_like(truth), [f"a{i // 2}" for i in range(2 * n_activities)]


def test_many_positive_activities_need_no_shrinkage():
    score, truth, known, activities = _inputs(10)
    chosen = choose_thresholds(score, truth, known, activities, LABELS)
    assert chosen["fess/a"] == pytest.approx(0.25) and chosen["fess/b"] == pytest.approx(0.75)


def test_few_positive_activities_shrink_towards_the_global_threshold():
    score, truth, known, activities = _inputs(4)
    chosen = choose_thresholds(score, truth, known, activities, LABELS)
    shared = global_threshold(score[:, :2], truth[:, :2], known[:, :2])
    assert chosen["fess/a"] == pytest.approx(0.4 * 0.25 + 0.6 * shared)
    assert chosen["fess/b"] == pytest.approx(0.4 * 0.75 + 0.6 * shared)


def test_frames_of_one_activity_are_one_activity():
    score, truth, known, _ = _inputs(10)
    chosen = choose_thresholds(score, truth, known, ["same"] * 20, LABELS)
    shared = global_threshold(score[:, :2], truth[:, :2], known[:, :2])
    assert chosen["fess/a"] == pytest.approx(0.1 * 0.25 + 0.9 * shared)


def test_few_activities_without_the_class_shrink_as_well():
    score, truth, known, activities = _inputs(20)
    truth[:, 0] = np.arange(len(truth)) != 1  # one frame of forty is without it
    chosen = choose_thresholds(score, truth, known, activities, LABELS)
    shared = global_threshold(score[:, :2], truth[:, :2], known[:, :2])
    own = best_threshold(score[:, 0], truth[:, 0])
    assert own is not None and chosen["fess/a"] == pytest.approx(0.1 * own + 0.9 * shared)


def test_a_class_without_a_positive_takes_the_global_threshold_of_its_own_source():
    score, truth, known, activities = _inputs(10)
    truth[:, 1] = False
    chosen = choose_thresholds(score, truth, known, activities, LABELS)
    assert chosen["fess/b"] == pytest.approx(global_threshold(score[:, :1], truth[:, :1], known[:, :1]))
    assert chosen["larynx/c"] is None  # nothing positive in that source


def test_what_validation_does_not_know_has_no_threshold():
    score, truth, known, activities = _inputs(10)
    known[:, 0] = False
    chosen = choose_thresholds(score, truth, known, activities, LABELS)
    assert chosen["fess/a"] is None and chosen["fess/b"] is not None
