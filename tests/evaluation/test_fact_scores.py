"""Factuality on resamples: the same numbers as the state that merges, and scenes whose labels are not all known."""

from __future__ import annotations

import pytest

from vlm_jax.contract import Record
from vlm_jax.evaluation.fact_scores import fact_samples, scene_samples
from vlm_jax.evaluation.intervals import Groups
from vlm_jax.metrics.factuality import FactState

LABELS = ("nasal septum", "choana")


def record(landmarks, side="left"):
    return Record("u", "fess", "p", "p", landmarks=landmarks, description=f"{side} view of nasal floor, choana visible")


def test_the_split_is_the_merged_state_and_six_groups_have_an_interval():
    said = ["polyps left", "no pus right", "septum straight", "choana free", "bulla opened", "septum bent"]
    true = [("pus left",), ("no pus left",), ("septum bent",), ("choana free",), ("bulla removed",), ("septum bent",)]
    groups = Groups.build(list("abcdef"))
    samples = fact_samples(said, true, groups, resamples=50)
    state = FactState.from_texts(said, true).compute()
    assert {n: samples.get(n) for n in samples.names} == pytest.approx(state, nan_ok=True)
    estimate = samples.estimate("precision")
    assert estimate.low is not None and estimate.low < state["precision"] < estimate.high


def test_scenes_with_an_unknown_label_are_left_out():
    said = [
        "left view of nasal floor, choana visible, nasal septum visible",
        "right view of nasal floor, choana visible",
    ]
    groups = Groups.build(["a", "b"])
    samples = scene_samples(said, [record((0, 1)), record((None, 1))], groups, LABELS)
    assert samples is not None
    assert samples.get("scene/landmark/precision") == 0.5 and samples.get("scene/landmark/recall") == 1
    assert samples.get("scene/laterality/contradictions") == 0
    both = scene_samples(said, [record((0, 1)), record((0, 1))], groups, LABELS)
    assert both is not None and both.get("scene/laterality/contradictions") == 0.5
    assert scene_samples(said[:1], [record(None)], Groups.build(["a"]), LABELS) is None
