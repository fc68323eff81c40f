"""Calibration: the fit is scikit-learn's on Platt's targets, and on drawn labels it brings scores back."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from vlm_jax.metrics.calibration import calibrate, fit_calibration, fit_one, logit


def drawn(n=4000, slope=0.5, offset=-1.5, seed=0):
    """Logits x and labels of probability sigmoid(slope * x + offset)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 3, n)
    return x, rng.random(n) < 1 / (1 + np.exp(-(slope * x + offset)))


@pytest.mark.parametrize("offset", [True, False])
def test_the_fit_is_that_of_scikit_learn(offset):
    x, truth = drawn(300)
    positives, negatives = truth.sum(), (~truth).sum()
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    model = LogisticRegression(C=np.inf, fit_intercept=offset, tol=1e-10, max_iter=1000)
    twice, labels = np.concatenate([x, x])[:, None], np.repeat([1, 0], len(x))
    model.fit(twice, labels, sample_weight=np.concatenate([target, 1 - target]))
    slope, shift = fit_one(x, truth, offset=offset)
    assert slope == pytest.approx(model.coef_[0, 0], abs=1e-4)
    assert shift == pytest.approx(float(model.intercept_[0]) if offset else 0.0, abs=1e-4)


def test_drawn_labels_give_their_slope_and_offset_back():
    slope, offset = fit_one(*drawn(40_000), offset=True)
    assert slope == pytest.approx(0.5, abs=0.03) and offset == pytest.approx(-1.5, abs=0.06)


def test_separable_labels_end():
    slope, offset = fit_one(np.array([-2.0, -1, 1, 2]), np.array([False, False, True, True]), offset=True)
    assert np.isfinite([slope, offset]).all() and slope > 0


def test_a_class_with_few_activities_keeps_its_scores_and_order_stays():
    x, truth = drawn(400)
    score = np.stack([1 / (1 + np.exp(-x))] * 2, axis=1).astype(np.float32)
    known = np.ones_like(score, bool)
    rare = np.zeros(400, bool)
    rare[:3] = True
    labels = np.stack([truth, rare], axis=1)
    activities = [f"a{i // 4}" for i in range(400)]
    found = fit_calibration(score, labels, known, activities, ("s/a", "s/b"), "platt")
    assert set(found) == {"s/a"}
    after = calibrate(score, ("s/a", "s/b"), found)
    assert np.array_equal(after[:, 1], score[:, 1])
    assert np.array_equal(np.argsort(after[:, 0], kind="stable"), np.argsort(score[:, 0], kind="stable"))
    assert abs(after[:, 0].mean() - truth.mean()) < 0.02 < abs(score[:, 0].mean() - truth.mean())
    assert fit_calibration(score, labels, known, activities, ("s/a", "s/b"), "none") == {}
    assert fit_calibration(score, labels, known, activities, ("s/a", "s/b"), "temperature")["s/a"][1] == 0


def test_logits_are_finite():
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()


def test_a_class_that_ranks_the_wrong_way_keeps_its_share():
    """Its slope is held at the least; the offset beside it is fitted anew."""
    x, truth = drawn(2000, slope=-0.8)
    for shift in (-6.0, 0.0, 6.0):
        slope, offset = fit_one(x + shift, truth, offset=True)
        assert slope == 0.01
        mean = float((1 / (1 + np.exp(-(slope * (x + shift) + offset)))).mean())
        assert mean == pytest.approx(truth.mean(), abs=1e-3)
