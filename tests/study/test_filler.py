"""The template filler: phrases counted in training, filled by landmarks."""

from __future__ import annotations

import dataclasses

from vlm_jax.evaluation.run import PREDICTIONS
from vlm_jax.study.filler import Example, TemplateFiller, fill, first_named, nearest, present_in_contexts
from vlm_jax.study.untrained import read_rows

COLOURS = ("red", "green", "blue")
NAMES = ("bulla", "superior concha", "concha")
TRAINING = [
    Example(frozenset({"bulla"}), "left view, bulla visible", "next one"),
    Example(frozenset({"bulla"}), "left view, bulla visible", "next two"),
    Example(frozenset({"bulla"}), "left view, bulla partly visible", "next two"),
    Example(frozenset({"concha"}), "right view, concha visible lateral to superior concha", None),
    Example(frozenset({"bulla", "concha"}), "left view, bulla visible, concha visible high", "next three"),
]


def test_a_seen_set_gets_its_most_frequent_description():
    filler = TemplateFiller.fit(TRAINING, NAMES)
    assert filler.describe(frozenset({"bulla"})) == "left view, bulla visible"
    assert filler.describe(frozenset({"bulla", "concha"})) == "left view, bulla visible, concha visible high"
    assert filler.anticipate(frozenset({"bulla"})) == "next two"


def test_absent_landmarks_leave_and_missing_ones_come_with_their_commonest_phrase():
    rows = [Example(frozenset({"bulla", "concha"}), "left view, bulla visible, concha high", None)] * 2
    rows.append(Example(frozenset({"superior concha"}), "right view, superior concha visible and very well", None))
    filler = TemplateFiller.fit(rows, NAMES)
    assert filler.describe(frozenset({"concha"})) == "left view, concha high"
    assert filler.describe(frozenset({"concha", "bulla", "superior concha"})) == "left view, bulla visible, concha high"
    assert filler.describe(frozenset({"superior concha", "bulla"})).endswith("visible and very well")


def test_names_within_longer_names_do_not_count():
    assert first_named("superior concha above bulla", NAMES) == "superior concha"
    assert first_named("left view", NAMES) is None
    assert nearest([], frozenset()) == ""


def test_in_a_study_it_reads_its_parents_landmarks_and_no_text(finished):
    jobs = [job for job in finished.jobs() if job.system.parent]
    assert len(jobs) == 4  # two folds, two seeds
    rows = read_rows(jobs[0].results / PREDICTIONS)
    parent = {r["uid"]: r["landmarks"] for r in read_rows(finished.parent(jobs[0]).results / PREDICTIONS)}
    for row in rows:
        said, of = row["describe"], parent[row["uid"]]
        assert list(said["contexts"]) == ["empty", "rolled_out"]
        chosen = {name for name in of if of[name]["predicted"]}
        assert {name for name in COLOURS if name in said["predicted"]} == chosen
        for context, text in said["contexts"].items():  # what the parent sees without the true previous description
            chosen = {name for name in of if of[name]["contexts"][context] >= of[name]["threshold"]}
            assert {name for name in COLOURS if name in text} == chosen


def test_a_frame_of_which_no_label_is_known_is_answered_as_one_without_landmarks(finished, tmp_path, monkeypatch):
    job = next(job for job in finished.jobs() if job.system.parent)
    parent = finished.parent(job)
    rows = read_rows(parent.results / PREDICTIONS)
    bare = next(row for row in rows if "describe" in row)
    del bare["landmarks"]
    monkeypatch.setattr("vlm_jax.study.filler.read_rows", lambda _: rows)
    fill(parent, dataclasses.replace(job, folder=tmp_path))
    before, after = ({r["uid"]: r for r in read_rows(f / PREDICTIONS)} for f in (job.results, tmp_path / "eval/test"))
    assert after.keys() == before.keys()
    said = after[bare["uid"]]["describe"]
    assert not any(name in said["predicted"] for name in COLOURS) and list(said["contexts"]) == ["empty", "rolled_out"]
    assert {u for u in after if after[u] != before[u]} <= {bare["uid"]}


def test_in_each_context_what_the_parent_sees_there():
    said = {
        "a": {"predicted": True, "threshold": 0.5, "contexts": {"empty": 0.4}},
        "b": {"predicted": False, "threshold": 0.2, "contexts": {"empty": 0.3}},
        "c": {"predicted": None, "threshold": None, "contexts": {"empty": 0.9}},
    }
    assert present_in_contexts(said) == ({"a"}, {"empty": {"b"}})
    assert present_in_contexts({"a": {"predicted": True, "threshold": 0.5}}) == ({"a"}, {})
