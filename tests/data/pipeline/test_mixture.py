"""Which record stands in which slot: proportions, epochs, index arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_jax.data.mixture import BLOCK, Mixture, block_pattern
from vlm_jax.errors import UserError

A, B = np.arange(100), np.arange(100, 130)


def test_by_default_each_record_counts_alike():
    rows = np.array([Mixture([A, B]).row(i) for i in range(13_000)])
    assert np.isclose((rows >= 100).mean(), 30 / 130, atol=1e-3)


def test_weights_are_shares():
    mixture = Mixture([A, B], (1.0, 3.0))
    rows = np.array([mixture.row(i) for i in range(BLOCK)])
    assert (rows >= 100).sum() == BLOCK * 3 // 4
    windows = (rows >= 100).reshape(-1, 32).sum(axis=1)
    assert windows.min() >= 23 and windows.max() <= 25  # spread evenly over every batch


def test_every_record_comes_once_an_epoch_in_a_new_order():
    mixture = Mixture([A], seed=4)
    epochs = [[mixture.row(e * 100 + i) for i in range(100)] for e in range(3)]
    assert all(sorted(epoch) == A.tolist() for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_each_source_runs_through_its_own_epochs():
    mixture = Mixture([A, B], (1.0, 1.0), seed=1)
    seen = [r for r in (mixture.row(i) for i in range(3 * BLOCK)) if r >= 100]
    for start in range(0, len(seen) - 30, 30):
        assert sorted(seen[start : start + 30]) == B.tolist()


@settings(max_examples=25, deadline=None)
@given(slots=st.lists(st.integers(0, 10**9), min_size=1, max_size=20), seed=st.integers(0, 3))
def test_a_slot_does_not_depend_on_what_was_asked_before(slots, seed):
    one, other = Mixture([A, B], (2.0, 1.0), seed), Mixture([A, B], (2.0, 1.0), seed)
    assert [one.row(s) for s in slots] == [other.row(s) for s in reversed(slots)][::-1]


def test_a_tiny_source_still_comes():
    pattern = block_pattern([1e9, 1.0])
    assert (pattern == 1).sum() == 1


def test_an_empty_source_is_left_out():
    mixture = Mixture([A, np.zeros(0, int)], (1.0, 5.0))
    assert {mixture.row(i) for i in range(100)} == set(A.tolist())


def test_nothing_to_train_on():
    with pytest.raises(UserError, match="nothing to train on"):
        Mixture([np.zeros(0, int)])
    with pytest.raises(UserError, match="data.weights has 1 numbers for 2 data sets"):
        Mixture([A, B], (1.0,))
