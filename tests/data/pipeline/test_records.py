"""The join: neighbours, sentences, contexts, labels, groups."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vlm_jax.config.schema import DataConfig
from vlm_jax.contract import END, START
from vlm_jax.data.joins import join_context
from vlm_jax.data.record_table import RecordTable
from vlm_jax.data.records import build_records
from vlm_jax.data.store import open_dataset


@pytest.fixture(scope="module")
def toy(toy_path):
    return build_records(open_dataset(toy_path), DataConfig())


def by_uid(records):
    return {r.uid: r for r in (records.record(i, "g", image=False) for i in range(len(records)))}


def test_a_record_for_each_frame_that_carries_something(toy):
    uids = [r for r in by_uid(toy) if r.startswith("p0/")]
    # Frame 6 lies in no activity and no window, frame 7 is not assessable.
    assert uids == [f"p0/v{v}/{i}" for v in range(2) for i in range(6)]


def test_neighbours_are_of_the_same_video(toy):
    records = by_uid(toy)
    first, middle, last = (records[f"p0/v1/{i}"] for i in (0, 2, 5))
    assert first.previous == START and first.next_description == middle.description
    assert middle.previous == first.description and middle.next_description == last.description
    assert last.next_description == END and last.previous == middle.description
    assert "video 1 of p0" in (first.description or "")


def test_sentences_attach_by_window_and_share_frames_where_windows_overlap(toy):
    records = by_uid(toy)
    assert [records[f"p1/v0/{i}"].sentence for i in range(4)] == ["p1/s0", "p1/s0", "p1/s2", None]
    third = records["p1/v0/2"]
    assert third.report_sentence == "Tool used." and third.keyword == "tool"
    assert third.context == "History of hoarseness."  # the sentence before in the report, without a window
    assert third.references == ("A tool on the left.",)
    assert records["p1/v0/0"].context == START


def test_a_window_of_time_says_nothing_where_there_are_several_videos(toy_path):
    """Not even in a data set written before such rows were refused."""
    dataset = open_dataset(toy_path)
    timed = tuple(dataclasses.replace(s, t0=0, t1=300) for s in dataset.tables.sentences)
    tables = dataclasses.replace(dataset.tables, sentences=timed)
    records = by_uid(build_records(dataclasses.replace(dataset, tables=tables), DataConfig()))
    assert records["p1/v0/0"].sentence and not any(r.sentence for uid, r in records.items() if uid.startswith("p0/"))


def test_what_no_frame_carries_is_said(toy, notes_path):
    # Two videos: all three sentences of four procedures. One video: the history, which has no window.
    assert toy.notices == ["toy: 16 report sentences have no frame in a window of theirs: neither learned nor scored"]
    assert build_records(open_dataset(notes_path), DataConfig()).notices == []


def test_a_context_is_never_of_another_video(toy):
    """So a split by sequence parts every text that a record carries from those of other sequences."""
    videos = {s.id: set() for s in toy.dataset.tables.sentences}
    for record in by_uid(toy).values():
        if record.sentence:
            videos[record.sentence].add(record.video)
    by_procedure = {}
    for sentence in toy.dataset.tables.sentences:
        by_procedure.setdefault(sentence.procedure, set()).update(videos[sentence.id])
    assert all(len(found) <= 1 for found in by_procedure.values()) and any(by_procedure.values())


def test_labels_of_the_activity_or_of_the_frame(toy_path):
    dataset = open_dataset(toy_path)
    activity = by_uid(build_records(dataset, DataConfig()))["p0/v0/1"]
    visible = by_uid(build_records(dataset, DataConfig(landmark_labels="visible")))["p0/v0/1"]
    assert activity.landmarks == (1, 0, None) and activity.visible == (1, None, 1)
    assert visible.landmarks == (1, None, 1)


def test_visible_labels_make_records_outside_activities(toy_path):
    records = by_uid(build_records(open_dataset(toy_path), DataConfig(landmark_labels="visible")))
    outside = records["p0/v0/6"]
    assert outside.activity is None and outside.description is None and outside.landmarks == (0, None, 1)


def test_a_source_without_frames_has_a_record_a_sentence(notes_path):
    notes = build_records(open_dataset(notes_path), DataConfig())
    records = by_uid(notes)
    assert len(records) == 20
    first, second = records["n0/0"], records["n0/1"]
    assert first.context == START and second.context == first.report_sentence
    for name in ("image", "landmarks", "visible", "previous", "description", "next_description", "activity", "video"):
        assert getattr(first, name) is None
    visible = build_records(open_dataset(notes_path), DataConfig(landmark_labels="visible"))
    assert by_uid(visible)["n0/0"].landmarks is None


def test_descriptions_that_a_source_lacks_are_none_at_both_ends(toy_path):
    dataset = open_dataset(toy_path)
    bare = tuple(dataclasses.replace(a, description=None) for a in dataset.tables.activities)
    without = dataclasses.replace(dataset, tables=dataclasses.replace(dataset.tables, activities=bare))
    record = by_uid(build_records(without, DataConfig()))["p0/v0/0"]
    assert record.previous is None and record.next_description is None


def test_a_video_without_descriptions_has_no_ends_beside_one_with_them(toy_path):
    dataset = open_dataset(toy_path)
    bare = tuple(
        dataclasses.replace(a, description=None) if a.video == "p0/v0" else a for a in dataset.tables.activities
    )
    without = dataclasses.replace(dataset, tables=dataclasses.replace(dataset.tables, activities=bare))
    records = by_uid(build_records(without, DataConfig()))
    assert records["p0/v0/0"].previous is None and records["p0/v0/5"].next_description is None
    assert records["p0/v1/0"].previous == START and records["p0/v1/5"].next_description == END


def test_context_of_a_report():
    assert join_context([]) == START
    assert join_context(["a.", "b."]) == "b."


def test_groups(toy, notes_path):
    notes = build_records(open_dataset(notes_path), DataConfig())
    assert [sorted(set(toy.groups(level)))[0] for level in ("patient", "procedure", "sequence")] == [
        "patient0", "p0", "p0/v0",
    ]  # fmt: skip
    assert toy.has("sequence") and not notes.has("sequence") and notes.has("patient")
    assert sorted(set(notes.groups("sequence"))) == ["n0", "n1", "n2", "n3", "n4"]


def test_the_table_of_all_sources_and_its_views(toy, notes_path):
    notes = build_records(open_dataset(notes_path), DataConfig())
    table = RecordTable([toy, notes], [toy.groups("patient"), notes.groups("patient")])
    assert len(table) == len(toy) + len(notes)
    view = table.view(np.array([len(toy), 0]))
    assert [r.uid for r in view] == ["n0/0", "p0/v0/0"]
    assert view.record(0).group == view.group(0) == "cluster n0" and view.group(1) == "patient0"
    assert view.activity(0) is None and view.activity(1) == "p0/v0/a0"
    assert view.labels(1).tolist() == [1, 0, -1]
    assert view.record(1).image == toy.dataset.read_image(0) and view.record(1, image=False).image == b""
