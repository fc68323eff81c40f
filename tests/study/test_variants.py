"""The worlds of a study: simulated by its settings, named by their data sets."""

from __future__ import annotations

import dataclasses

import pytest

from vlm_jax.config.study import Simulate, StudyData
from vlm_jax.errors import UserError
from vlm_jax.study.contrasts import contrasts_of
from vlm_jax.study.report_tables import contrast_table
from vlm_jax.study.scores import VariantScores
from vlm_jax.study.table import latex
from vlm_jax.study.variants import simulator_settings, unsaid, variants_of

SMALL = Simulate(procedures=4, activities_per_procedure=12.0, frames_per_procedure=12, image_size=16)
WORLDS = {
    "normal": "simulated",
    "world=reports_independent": "simulated, reports independent",
    "information=0.5": "simulated, information 0.5",
    "seed=7+blood=0.9": "simulated, seed 7, blood 0.9",
}
"""Variant -> what tables call it; its data set says the first three, and nothing of the last."""


@pytest.fixture(scope="module")
def study(make_study):
    return make_study(data=StudyData(), simulate=SMALL, variants=tuple(WORLDS))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("variants")


@pytest.fixture(scope="module")
def variants(study, workdir):
    return variants_of(study, workdir)


def test_each_variant_is_a_data_set_and_folds_of_its_own(study, workdir, variants):
    assert {v.name: v.worlds["fess"] for v in variants} == WORLDS
    assert len({v.paths for v in variants}) == 4 == len({v.folds for v in variants})
    assert variants[1].settings == {"world": "reports_independent"} and all(len(v.folds) == 2 for v in variants)
    assert {p.name for p in (workdir / "data").iterdir()} == set(WORLDS)
    before = {p: p.read_bytes() for p in (workdir / "folds").rglob("*.json")}
    assert variants_of(study, workdir) == variants
    assert {p: p.read_bytes() for p in before} == before


def test_variants_that_data_sets_do_not_tell_apart_are_apart_in_every_table(variants):
    about = {"source": "fess", "task": "report", "system": "base", "metric": "bleu2", "context": "gold"}
    sizes = {"unit": "sentence", "n_units": 4, "n_groups": 4, "low": None}
    rows = [about | sizes | {"world": v.worlds["fess"], "value": i / 10} for i, v in enumerate(variants)]
    written = latex(rows)
    assert written.count(r"\begin{table}") == 4 and all(f"0.{i}00" in written for i in range(4))
    contrasts = [c for v in variants for c in contrasts_of(VariantScores(v))]
    assert {c.to_json()["world"] for c in contrasts} == set(WORLDS.values())
    assert contrast_table(contrasts).count("<h3>") == 4


def test_only_what_makes_another_world_without_a_name_is_added(make_study):
    given = {"information": 0.5, "activities_per_procedure": 14.0, "fog": 0.04, "masks": True}
    assert unsaid(make_study(), given) == ("activities per procedure 14.0", "masks True")


@pytest.mark.parametrize("names", [("blood=0.9+fog=0.1", "fog=0.1+blood=0.9"), ("normal", "world=normal")])
def test_one_world_twice_is_refused(make_study, tmp_path, names):
    with pytest.raises(UserError, match=f"{names[0]} and {names[1]} are one world".replace("+", r"\+")):
        variants_of(make_study(data=StudyData(), simulate=SMALL, variants=names), tmp_path)
    assert not any(tmp_path.iterdir())


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
