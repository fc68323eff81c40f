"""Frames between activities: how many, of which kinds, when, and that no training record is one."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_jax.config.schema import DataConfig
from vlm_jax.data.check import check_dataset
from vlm_jax.data.records import build_records
from vlm_jax.data.stats import dataset_stats
from vlm_jax.data.store import open_dataset, write_dataset
from vlm_jax.simulator import SimulatorConfig, dataset_info, make_procedure, procedure_ids
from vlm_jax.simulator.interludes import KINDS, draw_interludes
from vlm_jax.simulator.unassessable import render_unassessable
from vlm_jax.simulator.workflow import draw_plan

SHORT = SimulatorConfig(seed=1, procedures=2, frames_per_procedure=90, image_size=16, activities_per_procedure=12)


def test_their_share_of_the_frames_is_the_one_asked_for(plans):
    config, lost, shown, kinds = SimulatorConfig(seed=3), 0, 0, Counter()
    for plan in plans:
        for item in draw_interludes(config, plan):
            kinds[item.kind] += item.frames
            lost += item.frames
        shown += sum(activity.frames for activity in plan.activities)
    assert lost / (lost + shown) == pytest.approx(config.unassessable_share, rel=0.02)
    assert set(kinds) == set(KINDS) and min(kinds.values()) > 0.05 * lost


def test_stress_has_more_blood(plans):
    def share(config):
        kinds = Counter(i.kind for plan in plans for i in draw_interludes(config, plan))
        return kinds["blood"] / kinds["fogged"]

    assert share(SimulatorConfig(seed=3, stress=True)) > 2 * share(SimulatorConfig(seed=3))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    activities=st.floats(12, 60),
    seconds=st.floats(1, 60),
    fps=st.floats(0.5, 60),
    share=st.floats(0, 0.5),
)
def test_they_fit_between_activities_for_any_setting(seed, activities, seconds, fps, share):
    config = SimulatorConfig(
        seed=seed, activities_per_procedure=activities, activity_seconds=seconds, fps=fps, unassessable_share=share
    )
    plan = draw_plan(config, 0)
    found = draw_interludes(config, plan)
    times = [item.t0 + round(k * 1000 / fps) for item in found for k in range(item.frames)]
    assert times == sorted(set(times))
    for item in found:
        before, after = plan.activities[item.after], plan.activities[item.after + 1]
        last = item.t0 + round((item.frames - 1) * 1000 / fps)
        assert before.t1 <= item.t0 <= last < after.t0 and item.frames >= 1 and item.kind in KINDS
    shown = sum(activity.frames for activity in plan.activities)
    assert len(times) <= round(shown * share / (1 - share))


def test_no_row_of_an_activity_depends_on_them():
    bundles = [
        make_procedure(config, procedure_ids(config)[0])
        for config in (SHORT, dataclasses.replace(SHORT, unassessable_share=0.0))
    ]
    some, none = ([f for f in bundle.frames if f.assessable] for bundle in bundles)
    assert some == none and bundles[0].activities == bundles[1].activities
    assert bundles[0].sentences == bundles[1].sentences


@pytest.mark.parametrize("kind", KINDS)
def test_their_images_are_of_the_asked_size_and_reproducible(kind):
    image = render_unassessable(kind, 48, 2, (1, 2, 3))
    assert image.shape == (48, 48, 3) and image.dtype == np.uint8
    assert (image == render_unassessable(kind, 48, 2, (1, 2, 3))).all()
    assert (image != render_unassessable(kind, 48, 2, (1, 2, 4))).any()


def test_a_data_set_counts_them_and_no_record_is_one(tmp_path):
    config = dataclasses.replace(SHORT, unassessable_share=0.2)
    write_dataset(
        tmp_path / "d",
        dataset_info(config),
        procedure_ids(config),
        lambda id: make_procedure(config, id),
        progress=False,
    )
    dataset = open_dataset(tmp_path / "d")
    stats, frames = dataset_stats(dataset), dataset.frames
    assert stats["unassessable_frames"] / stats["frames"] == pytest.approx(0.2, abs=0.01)
    assert stats["frames_in_activities"] == stats["assessable_frames"] == int(frames.assessable.sum())
    lost = np.flatnonzero(~frames.assessable)
    assert (frames.activity[lost] == "").all() and (frames.visible[lost] == -1).all()
    assert all(str(frames.uid[i]).split("-")[-2] in KINDS for i in lost)
    assert simplejpeg.decode_jpeg(dataset.read_image(int(lost[0]))).shape == (16, 16, 3)
    for unit in ("joined", "frames"):
        records = build_records(dataset, DataConfig(), unit)
        assert len(records) == stats["assessable_frames"] and not set(records.frame.tolist()) & set(lost.tolist())
    diagnosis = check_dataset(tmp_path / "d", progress=False)
    assert not diagnosis.count("error") and not [f for f in diagnosis.findings if f.code in ("order", "window")]
