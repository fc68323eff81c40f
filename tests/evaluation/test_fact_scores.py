"""Factuality on resamples: the same numbers as the state that merges, and scenes whose labels are not all known."""

from __future__ import annotations

import pytest

from vlm_jax.contract import Record
from vlm_jax.data.check_rows import named_labels
from vlm_jax.evaluation.fact_scores import fact_samples, judged, scene_samples
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
    assert [judged(record(known)) for known in ((0, 1), (None, 1), None, ())] == [True, False, False, False]
    samples = scene_samples(said[:1], [record((0, 1))], Groups.build(["a"]), LABELS)
    assert samples.get("scene/landmark/precision") == 0.5 and samples.get("scene/landmark/recall") == 1
    assert samples.get("scene/laterality/contradictions") == 0
    both = scene_samples(said, [record((0, 1)), record((0, 1))], Groups.build(["a", "b"]), LABELS)
    assert both.get("scene/laterality/contradictions") == 0.5


def test_labels_named_like_columns_are_the_same_structures():
    said = ["left view of nasal floor, nasal septum visible, my flap visible"]
    for labels in (("nasal septum", "my flap"), ("nasal_septum", "my_flap")):
        samples = scene_samples(said, [record((1, 1))], Groups.build(["a"]), labels)
        assert samples.get("scene/landmark/recall") == 1, labels
        assert named_labels(said[0], labels) == {0, 1}, labels
