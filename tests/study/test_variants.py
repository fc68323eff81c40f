"""The worlds of a study: simulated by its settings, named by their data sets."""

from __future__ import annotations

import dataclasses

import pytest

from vlm_jax.config.study import Simulate, StudyData
from vlm_jax.errors import UserError
from vlm_jax.study.variants import simulator_settings, variants_of


def test_each_variant_is_a_data_set_and_folds_of_its_own(make_study, tmp_path):
    small = Simulate(procedures=4, activities_per_procedure=12.0, frames_per_procedure=12, image_size=16)
    study = make_study(
        data=StudyData(), simulate=small, variants=("normal", "world=reports_independent", "information=0.5")
    )
    variants = variants_of(study, tmp_path)
    worlds = [v.worlds["fess"] for v in variants]
    assert worlds == ["simulated", "simulated, reports independent", "simulated, information 0.5"]
    assert len({v.paths for v in variants}) == 3 == len({v.folds for v in variants})
    assert variants[1].settings == {"world": "reports_independent"} and all(len(v.folds) == 2 for v in variants)
    files = sorted(p.name for p in (tmp_path / "data").iterdir())
    assert files == ["information=0.5", "normal", "world=reports_independent"]
    before = {p: p.read_bytes() for p in (tmp_path / "folds").rglob("*.json")}
    assert variants_of(study, tmp_path) == variants
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("worlds=normal", "did you mean 'world'"),
        ("stress", "expected SETTING=VALUE"),
        ("information=much", "information is a float, got 'much'"),
    ],
)
def test_settings_that_the_simulator_does_not_have(text, says):
    with pytest.raises(UserError, match=says):
        simulator_settings(text)


def test_settings_are_typed():
    found = simulator_settings("stress=true+information=0.25+world=previous_shuffled")
    assert found == {"stress": True, "information": 0.25, "world": "previous_shuffled"}


def test_a_world_that_does_not_exist_is_named(make_study, tmp_path):
    study = dataclasses.replace(make_study(data=StudyData()), variants=("world=nulll",))
    with pytest.raises(UserError, match="choose one of"):
        variants_of(study, tmp_path)
