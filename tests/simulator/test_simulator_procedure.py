"""Settings, bundles, determinism, thinning, the known prevalences, and the command."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_jax.errors import UserError
from vlm_jax.simulator import SimulatorConfig, anatomy, dataset_info, make_procedure, procedure_ids, version
from vlm_jax.simulator.procedure import View, reference_frames
from vlm_jax.simulator.workflow import draw_plan

SHORT = SimulatorConfig(seed=1, procedures=3, frames_per_procedure=30, image_size=48, activities_per_procedure=12)


def digest(bundle) -> str:
    """One hash of every row and every byte."""
    total = hashlib.sha256(repr((bundle.procedure, bundle.videos, bundle.activities, bundle.sentences)).encode())
    for frame in bundle.frames:
        total.update(repr(frame).encode())
    return total.hexdigest()


def test_same_seed_same_bytes_and_a_procedure_stands_alone():
    ids = procedure_ids(SHORT)
    again = digest(make_procedure(SHORT, ids[1]))
    assert digest(make_procedure(SHORT, ids[1])) == again
    assert digest(make_procedure(dataclasses.replace(SHORT, procedures=99), ids[1])) == again
    assert digest(make_procedure(SHORT, ids[2])) != again
    other = dataclasses.replace(SHORT, seed=2)
    assert not set(procedure_ids(other)) & set(ids)


def test_texts_and_labels_do_not_depend_on_image_size_or_thinning():
    rows = []
    for config in (SHORT, dataclasses.replace(SHORT, image_size=96, frames_per_procedure=100)):
        bundle = make_procedure(config, procedure_ids(SHORT)[0])
        rows.append((bundle.activities, bundle.sentences))
    assert rows[0] == rows[1]


def test_frames_belong_to_their_activities_and_labels_follow_from_them():
    config = dataclasses.replace(SHORT, frames_per_procedure=100_000, image_size=16)
    bundle = make_procedure(config, procedure_ids(config)[0])
    frames = list(bundle.frames)
    assert len({f.uid for f in frames}) == len(frames)
    for activity in bundle.activities:
        own = [f for f in frames if f.activity == activity.id]
        assert len(own) == (activity.t1 - activity.t0) // 200
        assert all(activity.t0 <= f.pts_ms < activity.t1 and f.assessable for f in own)
        often = np.mean([f.visible for f in own], axis=0)
        clear = np.abs(often - 0.5) > 0.25  # labels are read from eight of the frames
        assert (clear & ((often > 0.5) != np.array(activity.landmarks, bool))).sum() == 0
    for frame in (f for f in frames if f.assessable):
        assert all(0 <= fraction <= 1 for fraction in frame.fractions)
        assert all(fraction > 0 for fraction, seen in zip(frame.fractions, frame.visible, strict=True) if seen)
    image = simplejpeg.decode_jpeg(frames[0].image)
    assert image.shape == (16, 16, 3)


@pytest.mark.parametrize(("asked", "low", "high"), [(1, 1.0, 1.0), (72, 4.5, 7.5)])
def test_thinning_keeps_every_activity(asked, low, high):
    config = dataclasses.replace(SHORT, frames_per_procedure=asked, image_size=16)
    per_activity = []
    for id in procedure_ids(config):
        bundle = make_procedure(config, id)
        frames = list(bundle.frames)
        assert {f.activity for f in frames if f.assessable} == {a.id for a in bundle.activities}
        per_activity.append(sum(f.assessable for f in frames) / len(bundle.activities))
        assert [f.pts_ms for f in frames] == sorted(f.pts_ms for f in frames)
    assert low <= np.mean(per_activity) <= high


@pytest.mark.slow
def test_known_prevalences_over_frames(full):
    """KNOWN: three landmarks above 20 %, both arteries below 10 % of frames."""
    frames, labelled = 0, np.zeros(20)
    for _, bundle in full:
        for activity in bundle.activities:
            n = (activity.t1 - activity.t0) // 200
            frames, labelled = frames + n, labelled + n * np.array(activity.landmarks)
    written = [
        f.visible for _, bundle in full for f in bundle.frames if f.assessable
    ]  # the middle one of each activity
    seen = np.mean(written, axis=0)
    for share in (labelled / frames, seen):
        by_name = dict(zip(anatomy.NAMES, share, strict=True))
        for name in ("middle nasal meatus", "middle nasal concha", "uncinate process"):
            assert by_name[name] > 0.20, by_name
        for name in ("anterior ethmoidal artery", "posterior ethmoidal artery"):
            assert by_name[name] < 0.10, by_name


@pytest.mark.slow
def test_every_landmark_is_labelled_somewhere():
    config = SimulatorConfig(seed=5, procedures=16, frames_per_procedure=1, image_size=16)
    labelled = sum(np.array(a.landmarks) for id in procedure_ids(config) for a in make_procedure(config, id).activities)
    assert (labelled > 0).all(), dict(zip(anatomy.NAMES, labelled, strict=True))


def test_reference_view_is_half_of_the_reference_frames():
    """Labels follow the majority of the frames that the reference view is read from, those where landmarks come and go
    included."""
    config = SimulatorConfig(seed=2, procedures=1, image_size=16, activities_per_procedure=40)
    plan = draw_plan(config, 0)
    changing = 0
    for activity in plan.activities:
        view = View(config, plan, activity)
        share = view.sight.visible.mean(axis=0)
        assert view.labels == {n + 1 for n in range(20) if share[n] >= 0.5}
        changing += int(((share > 0) & (share < 1)).sum())
    assert changing > 0
    assert [len(reference_frames(n)) for n in (1, 5, 8, 30)] == [1, 5, 8, 8]


def test_info_names_the_settings_and_the_version():
    info = dataset_info(SHORT)
    assert info.source == "fess" and info.world == "simulated" and info.labels == anatomy.NAMES
    assert info.generator["config"]["seed"] == 1 and len(info.generator["version"]) == 16
    assert info.full_world == f"simulated, {info.simulator}" and info.simulator.startswith(version.SIMULATOR_VERSION)
    assert len(info.keywords) > 100


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("procedures", 0),
        ("procedures", 2.5),
        ("frames_per_procedure", 0),
        ("image_size", 8),
        ("activities_per_procedure", 3),
        ("activities_per_procedure", float("nan")),
        ("fps", "5"),
        ("omission_rate", 1.5),
        ("jpeg_quality", True),
        ("unassessable_share", 0.6),
        ("information", -0.1),
        ("world", "reports_dependent"),
        ("world", 3),
        ("stress", 1),
        ("masks", "yes"),
    ],
)
def test_bad_settings_are_refused_by_name(key, value):
    with pytest.raises(UserError, match=f"{key}=.*(from .* to |choose one of|True or False)"):
        SimulatorConfig(**{key: value})


def test_an_unknown_procedure_is_refused():
    with pytest.raises(UserError, match="fess-1-00000 to fess-1-00002"):
        make_procedure(SHORT, "fess-1-00003")


@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([16, 48]),  # each size is compiled anew
    activities=st.floats(12, 18),
    fps=st.floats(0.5, 10),
    omission=st.floats(0, 0.9),
    breach=st.floats(0, 1),
)
def test_any_valid_setting_gives_a_procedure(seed, size, activities, fps, omission, breach):
    config = SimulatorConfig(
        seed=seed, procedures=1, frames_per_procedure=1, image_size=size, activities_per_procedure=activities, fps=fps,
        omission_rate=omission, breach_rate=breach,
    )  # fmt: skip
    bundle = make_procedure(config, procedure_ids(config)[0])
    frames = list(bundle.frames)
    assert sum(f.assessable for f in frames) == len(bundle.activities)
    assert simplejpeg.decode_jpeg(frames[-1].image).shape == (size, size, 3)
    assert len(bundle.sentences) <= 45


def test_command_writes_a_data_set_twice_the_same(tmp_path):
    from vlm_jax.commands import data_simulate
    from vlm_jax.data.store import open_dataset

    parser = argparse.ArgumentParser()
    data_simulate.add_arguments(parser)
    flags = [
        "--procedures",
        "2",
        "--activities_per_procedure",
        "12",
        "--frames_per_procedure",
        "12",
        "--image_size",
        "32",
        "--seed",
        "4",
    ]
    prints = []
    for name in ("a", "b"):
        assert data_simulate.run(parser.parse_args(["--out", str(tmp_path / name), *flags])) == 0
        prints.append(open_dataset(tmp_path / name).fingerprint)
    assert prints[0] == prints[1]
    assert len(open_dataset(tmp_path / "a").tables.procedures) == 2
    with pytest.raises(UserError, match="procedures"):
        data_simulate.run(parser.parse_args(["--out", str(tmp_path / "c"), "--procedures", "0"]))
