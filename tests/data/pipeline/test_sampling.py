"""Sampling of rare landmarks: shares by brute force, epochs that keep their length, and the frames before a frame."""

from __future__ import annotations

import numpy as np
import pytest

from vlm_jax.contract import Frame
from vlm_jax.data.frame_index import FrameIndex
from vlm_jax.data.mixture import Mixture
from vlm_jax.data.preceding import PrecedingFrames
from vlm_jax.data.sampling import class_balanced, counts_of_epoch, repeat_factors


@pytest.fixture(scope="module")
def toy():
    """60 records of 15 activities of unequal length; landmark 0 is common, 1 rare, 2 in no record."""
    rng = np.random.default_rng(0)
    activities = np.sort(rng.integers(0, 15, 60)).astype(str)
    of_activity = {name: (int(rng.random() < 0.8), int(i % 7 == 0), 0) for i, name in enumerate(np.unique(activities))}
    return np.array([of_activity[name] for name in activities], np.int8), activities


def test_class_balanced_shares_equal_the_draw_that_they_describe(toy):
    labels, activities = toy
    classes = [labels[:, c] == 1 for c in range(3)] + [(labels == 0).all(axis=1)]
    classes = [column for column in classes if column.any()]
    expected = np.zeros(len(labels))
    for column in classes:
        names = sorted(set(activities[column]))
        for name in names:
            frames = np.flatnonzero(column & (activities == name))
            for frame in frames:
                expected[frame] += 1 / len(classes) / len(names) / len(frames)
    assert np.allclose(class_balanced(labels, activities), expected, atol=1e-12)
    assert expected.sum() == pytest.approx(1)


def test_repeat_factors_are_those_of_lvis_over_activities(toy):
    labels, activities = toy
    names = sorted(set(activities))
    share = [np.mean([labels[activities == name, c].max() for name in names]) for c in range(3)]
    for row, factor in zip(labels, repeat_factors(labels, activities, 0.3), strict=True):
        own = [max(1.0, (0.3 / share[c]) ** 0.5) for c in range(3) if row[c]]
        assert factor == pytest.approx(max([1.0, *own]))
    assert repeat_factors(labels, activities, 0.3).max() > 1.2


def test_an_epoch_is_as_long_as_ever_and_right_on_average():
    shares = np.random.default_rng(1).dirichlet(np.ones(40))
    offsets = np.random.default_rng(2).random(4000)
    counts = np.stack([counts_of_epoch(shares, offset) for offset in offsets])
    assert (counts.sum(axis=1) == 40).all() and (np.abs(counts - 40 * shares) < 1 + 1e-9).all()
    assert np.allclose(counts.mean(axis=0), 40 * shares, atol=0.05)


def test_shares_hold_in_the_mixture_whatever_was_asked_before(toy):
    labels, activities = toy
    shares = class_balanced(labels, activities)
    rows, other = np.arange(100, 160), np.arange(20)
    mixture = Mixture([other, rows], seed=3, shares=[None, shares])
    drawn = [mixture.row(slot) for slot in range(80 * 200)]
    of_second = np.array([row for row in drawn if row >= 100])
    assert len(of_second) == pytest.approx(60 * 200, abs=60)
    found = np.bincount(of_second - 100, minlength=60) / len(of_second)
    assert np.abs(found - shares).max() < 0.003
    assert sorted(row for row in drawn[:80] if row < 20) == list(range(20))
    again = Mixture([other, rows], seed=3, shares=[None, shares])
    assert [again.row(slot) for slot in (12345, 7, 700)] == [drawn[12345], drawn[7], drawn[700]]


def test_frames_before_a_frame_are_of_its_video_in_time_and_assessable():
    def frame(uid, video, pts, assessable=True):
        return Frame(uid, "p", video, pts, None, assessable, b"", (), ())

    frames = [frame("a0", "a", 0), frame("b0", "b", 50), frame("a2", "a", 200), frame("a1", "a", 100)]
    frames += [frame("black", "a", 150, assessable=False), frame("a3", "a", 300)]
    index = FrameIndex.from_frames(frames, 0)
    before = PrecedingFrames(index)
    names = index.uid.tolist()

    def said(uid, n, step=1):
        return [names[i] for i in before.before(names.index(uid), n, step)]

    assert said("a3", 2) == ["a2", "a1"] and said("a3", 9) == ["a2", "a1", "a0"]
    assert said("a3", 2, step=2) == ["a1"] and said("a0", 2) == [] == said("b0", 3) == said("black", 1)
