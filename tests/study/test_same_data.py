"""Finished runs are kept for the data and the folds that they were begun on, and for no others."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from vlm_jax.config.study import StudyData
from vlm_jax.errors import UserError
from vlm_jax.study.plan import make_plan
from vlm_jax.study.same_data import KEPT

_spec = importlib.util.spec_from_file_location("study_conftest_same", Path(__file__).with_name("conftest.py"))
toys = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toys)


@pytest.fixture
def begun(tmp_path, write_toy, make_study):
    """(again, write): the plan of a study with a finished run, once more; other data in its data's place."""
    files = [tmp_path / f"{i}.json" for i in range(2)]
    for i, file in enumerate(files):
        file.write_text(json.dumps({"test": [f"p{i}-patient"]}))

    def write(n):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        write_toy(tmp_path / "data", [toys.bundle(i) for i in range(n)])

    def again():
        data, names = StudyData(path=(str(tmp_path / "data"),)), tuple(map(str, files))
        return make_plan(make_study(data=data, fold_files=names), tmp_path / "study")

    write(5)
    job = again().jobs()[0]
    job.results.mkdir(parents=True)
    (job.results / "metrics.json").write_text("{}")
    return again, write


def lists(tmp_path):
    return {p.name: p.read_bytes() for p in (tmp_path / "study" / "folds").rglob("*.json")}


def test_other_data_are_refused_and_the_same_go_on(begun, tmp_path):
    again, write = begun
    before = lists(tmp_path)
    write(6)
    with pytest.raises(UserError, match="the data of .*data are not those that the runs .* put them back") as error:
        again()
    assert "\n" not in str(error.value) and lists(tmp_path) == before, "runs at work read these"
    write(5)
    assert again().jobs()[0].done


def test_other_folds_are_refused(begun, tmp_path):
    again, _ = begun
    before = lists(tmp_path)
    (tmp_path / "1.json").write_text(json.dumps({"test": ["p2-patient"]}))
    with pytest.raises(UserError, match="the folds are not those .* put the fold_files back"):
        again()
    assert lists(tmp_path) == before


def test_before_any_run_the_data_may_change(begun, tmp_path):
    again, write = begun
    shutil.rmtree(tmp_path / "study" / "runs")
    write(6)
    again()


def test_a_study_that_was_begun_before_this_was_kept_takes_what_is_there(begun, tmp_path):
    again, write = begun
    [kept] = (tmp_path / "study").rglob(KEPT)
    kept.unlink()
    write(6)
    assert again().jobs()[0].done and kept.is_file()
    write(5)
    with pytest.raises(UserError, match="are not those that the runs"):
        again()
