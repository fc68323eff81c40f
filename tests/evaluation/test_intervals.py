"""Intervals against scipy on the same draws, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vlm_jax.evaluation.intervals import Estimate, Groups, Samples, draws, weighted_mean
from vlm_jax.evaluation.text_scores import shuffled


def _mean_samples(values, **kwargs):
    values = np.asarray(values, float)
    return Samples.draw(("mean",), lambda w: (w @ values / w.sum(1))[:, None], len(values), **kwargs)


@pytest.mark.parametrize("seed", range(4))
def test_bca_equals_scipy(seed):
    values = np.random.default_rng(seed).gamma(1.0, size=15)
    own = _mean_samples(values, resamples=2000, seed=seed).estimate("mean")
    theirs = stats.bootstrap((values,), np.mean, n_resamples=2000, rng=np.random.default_rng(seed), method="BCa")
    assert own.value == pytest.approx(values.mean())
    assert (own.low, own.high) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-6)


def test_draws_are_whole_groups_and_the_same_for_every_system():
    weights = draws(7, 50, 3)
    assert weights.shape == (50, 7) and (weights.sum(1) == 7).all()
    np.testing.assert_array_equal(weights, draws(7, 50, 3))
    assert (weights != draws(7, 50, 4)).any()


def test_under_six_groups_there_is_no_interval():
    assert _mean_samples([1, 2, 3, 4, 5.0]).estimate("mean") == Estimate(3.0)
    assert _mean_samples([1, 2, 3, 4, 5, 6.0]).estimate("mean").low is not None


def test_a_constant_has_an_interval_of_no_width():
    assert _mean_samples([2.0] * 8).estimate("mean") == Estimate(2.0, 2.0, 2.0)


def test_undefined_stays_undefined_and_undefined_resamples_are_left_out():
    undefined = Samples.draw(("x",), lambda w: np.full((len(w), 1), np.nan), 8)
    assert undefined.estimate("x") == Estimate(None)
    only_first = Samples.draw(("x",), lambda w: np.where(w[:, :1] > 0, 0.5, np.nan), 8, resamples=100)
    estimate = only_first.estimate("x")  # its jackknife is undefined: percentile
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.5, 0.5)
    lost = Samples(("x",), np.array([0.5]), np.full((9, 1), np.nan), np.ones((8, 1)))
    assert lost.estimate("x") == Estimate(0.5)


def test_an_extreme_bias_falls_back_to_the_percentile():
    jackknife = np.arange(8.0)[:, None]
    boot = np.linspace(0, 1, 101)[:, None]
    outside = Samples(("x",), np.array([5.0]), boot, jackknife)  # the value lies beyond all resamples
    assert outside.estimate("x") == Estimate(5.0, pytest.approx(0.025), pytest.approx(0.975))


def test_differences_are_paired():
    values = np.random.default_rng(0).normal(size=10)
    a, b = _mean_samples(values + 0.1), _mean_samples(values)
    gain = a.minus(b).estimate("mean")
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.1, 0.1, 0.1))


def test_ninety_five_in_a_hundred_intervals_hold_the_truth():
    rng = np.random.default_rng(5)
    held = 0
    for trial in range(200):
        e = _mean_samples(rng.normal(size=20), resamples=300, seed=trial).estimate("mean")
        held += e.low <= 0 <= e.high
    assert 0.88 <= held / 200 <= 0.99


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_intervals_over_seeds_hold_what_training_varies_by(n_seeds):
    """Seeds differ by as much as groups do: with the trained systems fixed far too few intervals hold 0."""
    rng = np.random.default_rng(6)
    held = np.zeros(2)
    for trial in range(200):
        groups, luck = rng.normal(size=20), rng.normal(size=n_seeds)
        seeds = [_mean_samples(groups + one, resamples=300, seed=trial) for one in luck]
        fixed = _mean_samples(groups + luck.mean(), resamples=300, seed=trial)
        found = [samples.estimate("mean") for samples in (Samples.mean(seeds, str(trial)), fixed)]
        held += [e.low <= 0 <= e.high for e in found]
    assert 0.91 <= held[0] / 200 <= 0.99
    assert held[1] / 200 < 0.75


def test_where_groups_agree_the_interval_over_seeds_is_student_s():
    values = np.random.default_rng(1).normal(size=4)
    found = Samples.mean([_mean_samples([v] * 8, resamples=200_000) for v in values]).estimate("mean")
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(theirs), rel=0.03)


def test_where_training_s_chance_is_all_there_is_the_skewness_of_groups_does_not_tilt_the_interval():
    values = np.random.default_rng(2).gamma(0.3, size=24)
    several = [_mean_samples(values + shift, resamples=20_000) for shift in (-90.0, -40, 0, 40, 90)]
    found = Samples.mean(several).estimate("mean")
    assert (found.high - found.value) / (found.value - found.low) == pytest.approx(1.0, abs=0.1)
    alone = several[2].estimate("mean")
    assert (alone.high - alone.value) / (alone.value - alone.low) > 1.3


def test_a_bias_of_resampling_is_not_read_in_the_tail_of_student_s_t():
    """Resamples repeat groups, which raises an average precision: here by one and a half of their deviations."""
    rng = np.random.default_rng(4)
    boot, left = rng.normal(0.03, 0.02, size=(2000, 1)), rng.normal(0, 0.001, size=(24, 1))
    several = [Samples(("ap",), np.array([v]), v + boot, v + left) for v in (0.495, 0.5, 0.505)]
    found, alone = Samples.mean(several, "x").estimate("ap"), several[1].estimate("ap")
    assert 0 < alone.value - alone.low < 0.07
    assert alone.low > found.low > alone.low - 0.03
    assert Samples.mean(several, "x").tail("ap", found.low) == pytest.approx(0.025, abs=0.001)


def test_one_seed_is_left_as_it_is_and_systems_draw_their_own():
    values = np.random.default_rng(0).normal(size=10)
    one = _mean_samples(values)
    assert Samples.mean([one], "a").estimate("mean") == one.estimate("mean")
    several = [_mean_samples(values + k) for k in range(3)]
    a, again, b = (Samples.mean(several, name).boot for name in ("a", "a", "b"))
    assert (a == again).all() and (a != b).any()


def test_frames_of_one_group_move_together():
    groups = Groups.build(["b", "a", "b"])
    assert groups.names == ("a", "b") and len(groups) == 2
    np.testing.assert_array_equal(groups.sums(np.array([[1.0], [10], [100]])), [[10], [101]])
    assert np.isnan(weighted_mean(np.zeros(1), np.zeros(1)))[0]


def test_shuffled_pairs_are_never_their_own():
    for n in (2, 3, 10):
        order = shuffled(n, 0)
        assert sorted(order) == list(range(n)) and (order != np.arange(n)).all()
