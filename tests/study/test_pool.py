"""On which units all systems are scored, and that none vanishes without a word."""

from __future__ import annotations

import csv
import dataclasses
import shutil

import pytest

from vlm_jax.evaluation.run import PREDICTIONS
from vlm_jax.study.pool import TextAnswers, common_units
from vlm_jax.study.run import assemble
from vlm_jax.study.untrained import read_rows, write_rows

SCOPE = ("toy", "report")


def answers(*keys):
    return [{SCOPE: TextAnswers(dict.fromkeys(keys, ("group", ("text",), 0)))} for _ in range(2)]


def test_trained_systems_decide_and_incomplete_trivial_ones_go():
    systems = {"a": answers(*"xyz"), "b": answers(*"xy"), "trivial/all": answers(*"xyzw"), "trivial/few": answers("x")}
    units, notes = common_units(systems)
    assert units == {SCOPE: ["x", "y"]}
    assert notes[SCOPE] == [
        "2 of 4 sentences are scored for no system, for these have not answered all: a, b",
        "trivial/few is left out, for it has not answered 1 of them",
    ]
    assert [SCOPE in seeds[0] and SCOPE in seeds[1] for seeds in systems.values()] == [True, True, True, False]


def test_nothing_is_said_where_nothing_is_missing():
    assert common_units({"a": answers("x"), "trivial/all": answers("x")}) == ({SCOPE: ["x"]}, {SCOPE: []})


def test_a_task_that_no_trained_system_has_keeps_its_trivial_ones():
    systems = {"trivial/all": answers(*"xy"), "trivial/few": answers("x")}
    units, _ = common_units(systems)
    assert units == {SCOPE: ["x", "y"]} and [SCOPE in seeds[0] for seeds in systems.values()] == [True, False]


@pytest.fixture
def damaged(finished, tmp_path):
    """A finished study in which one fold has no `nearest`, another no `keyword_mode`, and `base` lacks a sentence."""
    shutil.copytree(finished.workdir, tmp_path / "study", ignore=shutil.ignore_patterns("report.html"))
    plan = dataclasses.replace(finished, workdir=tmp_path / "study")
    [trivial] = [s for s in plan.systems if s.name == "trivial"]
    for fold, name in ((0, "nearest"), (1, "keyword_mode")):
        (plan.job(plan.variants[0], trivial, fold, 0).results / f"{name}.jsonl").unlink()
    [base] = [s for s in plan.systems if s.name == "base@tiny"]
    file = plan.job(plan.variants[0], base, 1, 1).results / PREDICTIONS
    rows = {row["row"]: row for row in read_rows(file)}
    del next(row for row in rows.values() if "report" in row)["report"]
    write_rows(file, rows)
    return plan


def test_what_is_missing_is_said_and_stands_in_the_report(damaged, capsys):
    assemble(damaged)
    said = capsys.readouterr().err
    rows = list(csv.DictReader((damaged.workdir / "table.csv").open()))
    html = (damaged.workdir / "report.html").read_text()
    assert {r["n_units"] for r in rows if (r["task"], r["metric"]) == ("report", "bleu2")} == {"55"}
    notes = ["1 of 56 sentences are scored for no system, for these have not answered all: base@tiny"]
    notes += [f"trivial/{name} is left out, for it has not answered " for name in ("nearest", "keyword_mode")]
    for note in notes:
        assert f"simulated, toy, report: {note}" in said and note in html
    assert "simulated, toy, describe" not in said
    systems = {r["system"] for r in rows if r["task"] == "report"}
    assert "trivial/markov" in systems and not {"trivial/nearest", "trivial/keyword_mode"} & systems
