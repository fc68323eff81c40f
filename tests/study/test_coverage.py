"""The coverage simulation: what it counts, and that it sees intervals that are too narrow."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from vlm_jax.evaluation.intervals import Samples
from vlm_jax.study import coverage, run
from vlm_jax.study.coverage import FREQUENCIES, intervals, label_metrics, make_world, simulate_coverage


@pytest.fixture(scope="module")
def rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coverage, "COUNTS", (6, 12))
        patch.setattr(coverage, "RESAMPLES", 200)
        return simulate_coverage(60, seed=2)


def test_every_metric_count_and_method_has_a_row(rows):
    keys = {(r["metric"], r["frequency"], r["procedures"], r["method"]) for r in rows}
    assert len(keys) == len(rows) == (3 + 3 + 3 + 1 + 3 + 1) * 2 * 2
    assert {r["frequency"] for r in rows} == {*FREQUENCIES, "all"}
    assert all(r["repeats"] == 60 and 0 <= r["given"] <= 1 for r in rows)
    assert all((r["coverage"] is None) == (r["given"] == 0) for r in rows)


def test_intervals_cover_about_as_often_as_the_issue_says(rows):
    common = [r["coverage"] for r in rows if r["frequency"] == "common" and r["method"] == "bca"]
    assert 0.85 < np.mean(common) <= 1
    texts = [r["coverage"] for r in rows if r["metric"] in ("bleu2", "rouge_l") and r["procedures"] == 12]
    assert min(texts) > 0.8


def test_intervals_are_given_where_a_study_gives_them(rows):
    """None of a class that is present in fewer than six groups: of a rare one hardly ever with six procedures."""
    given = {(r["frequency"], r["procedures"]): r["given"] for r in rows if r["metric"] == "f1"}
    assert given["rare", 6] < 0.1 < given["rare", 12] < 1 == given["common", 12]
    world = make_world(0, 400)
    has = np.array([world.truth[world.owner == p, 2].any() for p in range(400)])
    for there in (5, 6):
        chosen = np.concatenate([np.flatnonzero(has)[:there], np.flatnonzero(~has)[:2]])
        found = label_metrics(world, chosen, resamples=50)
        for metric in ("f1", "average precision"):
            bounds = intervals(found[metric, "rare"])
            assert [bounds[method] is not None for method in ("bca", "percentile")] == [there == 6] * 2
        assert intervals(found["f1_macro", "all"])["bca"] is not None


def test_more_procedures_make_narrower_intervals(rows):
    width = {r["procedures"]: r["width"] for r in rows if r["metric"] == "f1_micro" and r["method"] == "bca"}
    assert width[12] < width[6]


def test_the_same_seed_gives_the_same_rows(monkeypatch):
    monkeypatch.setattr(coverage, "COUNTS", (6,))
    monkeypatch.setattr(coverage, "RESAMPLES", 50)
    said = []
    assert simulate_coverage(2, seed=1, say=said.append) == simulate_coverage(2, seed=1)
    assert said == ["coverage with 6 procedures: 2 draws"]


def test_an_interval_that_is_too_narrow_is_found_out(monkeypatch):
    """Half the width: coverage must fall far below nominal, else the simulation could not fail."""
    monkeypatch.setattr(coverage, "COUNTS", (12,))
    monkeypatch.setattr(coverage, "RESAMPLES", 100)

    def narrow(samples):
        found = intervals(samples)
        middle = float(samples.value[0])
        return {k: v and (middle + (v[0] - middle) / 2, middle + (v[1] - middle) / 2) for k, v in found.items()}

    monkeypatch.setattr(coverage, "intervals", narrow)
    found = [r["coverage"] for r in simulate_coverage(60, seed=2) if r["frequency"] in ("common", "all")]
    assert np.mean(found) < 0.8


def test_the_truth_is_the_whole_population_and_prevalences_are_as_named():
    world = make_world(0, 400)
    metrics = label_metrics(world, np.arange(400), resamples=0)
    f1 = metrics["f1", "common"].value[0]
    truth, said = world.truth[:, 0], world.scores[0, :, 0] >= 0.5
    assert f1 == pytest.approx(2 * (truth & said).sum() / (truth.sum() + said.sum()))
    share = world.truth.mean(axis=0)
    assert (np.diff(share) < 0).all() and share[2] == pytest.approx(0.03, abs=0.015)


def test_what_another_rule_gave_is_simulated_again(make_study, tmp_path, monkeypatch):
    plan = SimpleNamespace(study=make_study(coverage=2), workdir=tmp_path)
    monkeypatch.setattr(run, "simulate_coverage", lambda *_, **__: ["anew"])
    (tmp_path / "coverage.json").write_text(json.dumps({"repeats": 2, "rows": ["before"]}))
    assert run.coverage_rows(plan) == ["anew"]
    monkeypatch.setattr(run, "simulate_coverage", lambda *_, **__: pytest.fail("again"))
    assert run.coverage_rows(plan) == ["anew"]


def test_a_class_that_is_absent_gives_no_interval():
    nothing = Samples(("x",), np.array([np.nan]), np.full((9, 1), np.nan), np.full((6, 1), np.nan))
    assert intervals(nothing) == {"bca": None, "percentile": None}
