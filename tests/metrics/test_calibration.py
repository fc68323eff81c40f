"""Calibration: the fit is scikit-learn's on Platt's targets; drawn labels bring scores back, few move little."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from vlm_jax.metrics.calibration import calibrate, fit_calibration, fit_one, logit, shrunk_probabilities


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


def test_shrunk_probabilities_are_the_most_probable():
    """Of cross-entropy (scikit-learn's) and the two Gaussians (scipy's), by a search that knows no gradient."""
    x, truth = drawn(60)
    score, weight = expit(x), np.random.default_rng(1).uniform(0.2, 1.0, 60)

    def surprise(parameters):
        z = np.exp(parameters[0]) * x + parameters[1]
        labels = log_loss(truth, expit(z), sample_weight=weight, normalize=False)
        return labels - norm.logpdf(parameters[0], scale=0.5) - norm.logpdf(parameters[1], scale=1.5)

    found = minimize(surprise, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x
    expected = expit(np.exp(found[0]) * x + found[1])
    np.testing.assert_allclose(shrunk_probabilities(score, truth, weight), expected, atol=1e-4)
    assert np.abs(expected - score).max() > 0.02


def test_shrunk_probabilities_are_scores_without_labels_and_platts_with_many():
    x, truth = drawn(40_000)
    nothing = np.zeros(len(x))
    np.testing.assert_allclose(shrunk_probabilities(expit(x), truth, nothing), expit(x), atol=1e-6)
    slope, offset = fit_one(x, truth, offset=True)
    many = shrunk_probabilities(expit(x), truth, nothing + 1)
    np.testing.assert_allclose(many, expit(slope * x + offset), atol=2e-3)


def test_shrunk_probabilities_bear_what_is_certain_or_of_one_kind():
    score, everywhere = np.array([0.0, 1.0, 0.5, 0.5]), np.ones(4, bool)
    found = shrunk_probabilities(score, everywhere, np.ones(4))
    assert np.isfinite(found).all() and (found[2] > 0.5) and found[0] < found[2] < found[1]
