"""What finished runs were trained by, what they say of their data, and folds that have nothing to test on."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from etils import epath

from vlm_jax.config import load as config_io
from vlm_jax.data.files import read_json
from vlm_jax.errors import UserError
from vlm_jax.evaluation.run import METRICS
from vlm_jax.study import jobs
from vlm_jax.study.notices import notices_of, shared_patients
from vlm_jax.study.plan import make_plan
from vlm_jax.study.pool import pooled_systems
from vlm_jax.study.same_runs import check_runs
from vlm_jax.study.scores import _Scorer, score_variant
from vlm_jax.study.systems import data_config
from vlm_jax.study.untrained import open_fold
from vlm_jax.study.variants import Variant


@pytest.fixture
def plan(make_study, tmp_path):
    return make_plan(make_study(seeds=(0,)), tmp_path)


def first(plan, name="base@tiny"):
    return next(job for job in plan.jobs() if job.system.name == name)


def test_data_settings_that_no_small_model_could_take_open_the_data(make_study):
    """They are the study's for all runs; the trivial scores have no model for which anything is too long."""
    settings = (
        "data.target_length=96",
        "data.prompt_length=200",
        "data.image_size=100",
        "optim.lr=1",
        "base@tiny:seed=3",
    )
    data = data_config(make_study(settings=settings)).data
    assert (data.target_length, data.prompt_length, data.image_size) == (96, 200, 100)


def test_finished_runs_of_another_configuration_are_refused_by_name(plan):
    job = first(plan)
    place = epath.Path(jobs.trial_folder(job, 1.0))
    place.mkdir(parents=True)
    config_io.dump(job.config, place / "config.json")
    check_runs(plan)
    config_io.dump(jobs.at_rate(job.config, 2.0), place / "config.json")
    check_runs(plan)  # one that is not done is refused where it goes on
    job.results.mkdir(parents=True)
    (job.results / METRICS).write_text("{}")
    with pytest.raises(
        UserError, match=r"base@tiny .*optim.lr differ.*remove '\S*/base@tiny' and '\S*/template_filler@tiny' to"
    ):
        check_runs(plan)


def test_notices_name_their_systems_and_stand_once(plan):
    said = {
        "base@tiny": ["site1: 2 of 56 texts are cut", "all say"],
        "no_image@tiny": ["site1: 30 of 60 texts are cut", "site2: 1 of 9 texts are cut", "all say"],
    }
    for job in (job for job in plan.jobs() if job.system.trained):
        job.folder.mkdir(parents=True)
        found = {"notices": said.get(job.system.name, ["all say"])} if job.fold == 0 else {}
        (job.folder / jobs.SUMMARY).write_text(json.dumps(found))
    assert notices_of(plan, plan.variants[0]) == [
        "base@tiny, no_image@tiny: site1: 30 of 60 texts are cut (so or alike in 2 runs)",
        "all say (so or alike in 4 runs)",
        "no_image@tiny: site2: 1 of 9 texts are cut",
    ]


def test_people_of_one_name_in_two_sources_are_said(tmp_path):
    folds = []
    for i, (a, b) in enumerate([(["p1"], ["p2"]), (["p2"], ["p2"])]):
        fold = []
        for source, test in (("frames", a), ("notes", b)):
            lists = {"test": test, "train": [p for p in ("p1", "p2", "p3") if p not in test]}
            (tmp_path / f"{source}{i}.json").write_text(json.dumps(lists))
            fold.append((source, str(tmp_path / f"{source}{i}.json")))
        folds.append(tuple(fold))
    [line] = shared_patients(Variant("data", (), tuple(folds), {}, {}))
    assert line.startswith("frames and notes share 2 groups of one name ('p1')") and "fold_files" in line
    assert not shared_patients(Variant("data", (), tuple(folds[1:]), {}, {}))


def test_a_fold_without_a_unit_of_a_system_is_no_failure(plan, monkeypatch):
    job = first(plan, "keyword_report@tiny")
    data = open_fold(job)
    system = SimpleNamespace(config=job.config, tokenizer=data.tokenizer, labels=data.labels, meta={})
    monkeypatch.setattr(jobs, "train", lambda config, place: 0)
    monkeypatch.setattr(jobs, "choose", lambda trials: (system, 1.0))
    monkeypatch.setattr(jobs, "summarise", lambda *_: {"notices": []})
    monkeypatch.setattr(jobs, "split_units", lambda *_: {"report": []})
    monkeypatch.setattr(jobs, "evaluate", lambda *_, **__: pytest.fail("there is nothing to evaluate"))
    assert jobs.run_job(plan, job) == 0 and job.done
    assert read_json(job.folder / jobs.SUMMARY)["notices"] == ["has nothing to be tested on in a fold"]
    pooled = {name: seeds for name, _, seeds in pooled_systems(plan, plan.variants[0])}
    assert pooled["keyword_report@tiny"] == [{}]


def test_contexts_that_are_not_answered_for_every_unit_are_said(finished):
    found = score_variant(finished, finished.variants[0])
    assert found.notices == []
    scorer, keys = _Scorer(finished, finished.variants[0], found), found.units["toy", "report"]
    whole = dict.fromkeys(keys, "")
    seeds = [{"gold": whole, "empty": whole}, {"gold": whole, "empty": dict.fromkeys(keys[1:], "")}]
    assert scorer._contexts("base", ("toy", "report"), seeds) == ["gold"]
    assert scorer.unanswered() == ["toy, report, empty: no score of base: not all units are answered"]
