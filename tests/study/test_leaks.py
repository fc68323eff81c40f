"""A fold that leaks stops the study before anything is trained, with the names of what leaks."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from vlm_jax.errors import UserError
from vlm_jax.study.plan import make_plan

_spec = importlib.util.spec_from_file_location("study_conftest", Path(__file__).with_name("conftest.py"))
toys = importlib.util.module_from_spec(_spec)
sys.modules["study_conftest"] = toys
_spec.loader.exec_module(toys)


@pytest.fixture
def plan_of(tmp_path, write_toy, make_study):
    """plan_of(bundles, **changes): the plan of a study of these procedures."""

    def plan(bundles, **changes):
        from vlm_jax.config.study import StudyData

        path = write_toy(tmp_path / "data", bundles)
        group_by = changes.pop("group_by", "")
        return make_plan(make_study(data=StudyData(path=(path,), group_by=group_by), **changes), tmp_path / "study")

    return plan


def test_folds_keep_patients_apart_and_test_each_once(plan_of):
    plan = plan_of([toys.bundle(i, patient=f"patient{i // 2}") for i in range(8)])
    [variant] = plan.variants
    folds = [json.loads(Path(dict(fold)["toy"]).read_text()) for fold in variant.folds]
    assert sorted(g for fold in folds for g in fold["test"]) == [f"patient{i}" for i in range(4)]
    for fold in folds:
        assert sorted(g for groups in fold.values() for g in groups) == [f"patient{i}" for i in range(4)]


def write_fold(place, **groups):
    place.write_text(json.dumps(groups))
    return str(place)


def test_a_group_in_two_splits(plan_of, tmp_path):
    bundles = [toys.bundle(i) for i in range(4)]
    a = write_fold(tmp_path / "a.json", train=["p0-patient", "p1-patient"], test=["p2-patient", "p1-patient"])
    b = write_fold(tmp_path / "b.json", test=["p0-patient"])
    with pytest.raises(UserError, match="fold 0 leaks: toy 'p1-patient' in both train and test"):
        plan_of(bundles, fold_files=(a, b))


def test_a_group_that_is_tested_on_twice(plan_of, tmp_path):
    files = [write_fold(tmp_path / f"{i}.json", test=["p0-patient"]) for i in range(2)]
    with pytest.raises(UserError, match="'p0-patient' is tested on in folds 0 and 1"):
        plan_of([toys.bundle(i) for i in range(4)], fold_files=tuple(files))


def test_a_patient_in_two_splits_where_folds_divide_by_procedure(plan_of):
    with pytest.raises(UserError, match="patient 'same' of toy in two splits"):
        plan_of([toys.bundle(i, patient="same" if i < 2 else None) for i in range(6)], group_by="procedure", folds=6)


def test_the_same_picture_encoded_again_in_another_patient(plan_of):
    def again(i, j):  # the picture of p0's first frame, smaller, a little brighter and at another quality
        if (i, j) != (2, 1):
            return toys.jpeg(toys.picture(900 + 10 * i + j))
        return toys.jpeg(np.clip(toys.picture(0).astype(int) + 1, 0, 255).astype(np.uint8), quality=70)

    bundles = [toys.bundle(i) for i in range(5)] + [toys.bundle(5, image_of=again)]
    with pytest.raises(UserError, match="near-duplicates across folds of toy: 'p0-a0-f0' and 'p5-a2-f1' .frames"):
        plan_of(bundles, folds=6)


def test_notes_with_the_same_wording(plan_of):
    words = [
        "the middle turbinate was medialised under direct vision",
        "polyps were removed from the left middle meatus",
        "the uncinate process was incised and taken down",
        "haemostasis was achieved and both sides were packed",
    ]
    other = [*words[:3], "no bleeding was seen at the end"]
    bundles = [toys.bundle(i) for i in range(4)] + [toys.bundle(4, report=words), toys.bundle(5, report=other)]
    with pytest.raises(UserError, match="'p4' and 'p5' .notes, 57% of the wording"):
        plan_of(bundles, folds=6)


def test_duplicates_within_one_patient_are_none_of_it(plan_of):
    bundles = [toys.bundle(i) for i in range(4)]
    same = toys.bundle(4, image_of=lambda i, j: toys.jpeg(toys.picture(10 * i + j)), patient="p0-patient")
    assert len(plan_of([*bundles, same]).variants) == 1


def test_a_clean_data_set_is_looked_over_once(plan_of, tmp_path, make_study, monkeypatch):
    plan_of([toys.bundle(i) for i in range(4)])
    monkeypatch.setattr("vlm_jax.study.leaks.frame_pairs", lambda *_: pytest.fail("looked over again"))
    from vlm_jax.config.study import StudyData

    data = StudyData(path=(str(tmp_path / "data"),))
    make_plan(make_study(data=data), tmp_path / "study")
    with pytest.raises(pytest.fail.Exception, match="looked over again"):
        make_plan(make_study(data=data, folds=3), tmp_path / "study")


def test_fold_files_that_cannot_be_read(plan_of, tmp_path):
    bundles = [toys.bundle(i) for i in range(4)]
    with pytest.raises(UserError, match="fold_files: cannot read the list file"):
        plan_of(bundles, fold_files=(str(tmp_path / "none.json"),))
    file = tmp_path / "fold.json"
    for content, message in ((["p1"], "must be"), ({"test": ["p1-patient", "p2-patien"]}, "names 'p2-patien'")):
        file.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            plan_of(bundles, fold_files=(str(file),))


def test_frames_that_cannot_be_read_are_looked_at_again(plan_of, tmp_path, make_study, monkeypatch, capsys):
    bundles = [toys.bundle(i) for i in range(4)]
    with monkeypatch.context() as broken:
        broken.setattr("vlm_jax.study.leaks.decode_image", lambda *_: (_ for _ in ()).throw(UserError("truncated")))
        plan_of(bundles)
    assert "could not be read and were not compared" in capsys.readouterr().err
    monkeypatch.setattr("vlm_jax.study.leaks.frame_pairs", lambda *_: pytest.fail("looked over again"))
    from vlm_jax.config.study import StudyData

    with pytest.raises(pytest.fail.Exception, match="looked over again"):
        make_plan(make_study(data=StudyData(path=(str(tmp_path / "data"),))), tmp_path / "study")


def test_too_few_groups(plan_of):
    with pytest.raises(UserError, match="a study needs three at least"):
        plan_of([toys.bundle(i) for i in range(2)])
