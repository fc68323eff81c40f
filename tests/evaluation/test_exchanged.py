"""Prompts with a part taken away, and inputs of another unit in place of the own."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from vlm_jax.contract import TASKS
from vlm_jax.evaluation.answers import Answerer, _changed_texts, exchanged
from vlm_jax.evaluation.run import evaluate, split_units


@pytest.fixture
def answer(run_data, echo):
    units = split_units(run_data, "test", echo.config.tasks)
    answerer = Answerer(echo, run_data, "test")
    return units, lambda context: answerer.answer(units, context)


@pytest.mark.parametrize(("context", "field"), [("no_keyword", "keyword"), ("no_context", "context")])
def test_a_report_s_prompt_lacks_one_part_and_keeps_the_other(answer, context, field):
    units, under = answer
    gold, without = under("gold"), under(context)
    assert not without.probabilities and not without.texts["describe"] and not without.texts["anticipate"]
    assert without.texts["report"].keys() == gold.texts["report"].keys()
    for unit in units["report"]:
        own = str(getattr(unit.record, field)).replace("_", " ").lower().split()[-1]
        if own.isalnum() and own in gold.texts["report"][unit.row]:
            assert without.texts["report"][unit.row] != gold.texts["report"][unit.row]
    changed = sum(without.texts["report"][row] != text for row, text in gold.texts["report"].items())
    assert changed > len(gold.texts["report"]) / 2


def test_texts_of_other_units_stand_in_the_prompts(answer):
    units, under = answer
    gold, dealt = under("gold"), under("shuffled_texts")
    assert dealt.probabilities.keys() == gold.probabilities.keys()
    for task in TASKS[1:]:
        some = units[task]
        assert dealt.texts[task].keys() == gold.texts[task].keys()
        changed = [dealt.texts[task][u.row] != gold.texts[task][u.row] for u in some]
        assert any(changed), task
    everyone = {u.row: u.record for some in units.values() for u in some}
    found = _changed_texts(units, "shuffled_texts")
    for source in {record.source for record in everyone.values()}:
        rows = [row for row in found if everyone[row].source == source and "previous" in found[row]]
        for name in ("previous", "description"):  # the same texts in another order, and none of another source
            assert sorted(str(found[row][name]) for row in rows) == sorted(
                str(getattr(everyone[r], name)) for r in rows
            )
    assert all("keyword" not in fields for fields in found.values())


def test_pictures_of_other_units_are_shown_and_the_truth_stays(answer, run_data):
    units, under = answer
    gold, dealt = under("gold"), under("shuffled_images")
    picture = exchanged(units)
    assert sorted(picture) == sorted(picture.values()) and all(row != other for row, other in picture.items())
    for row, probabilities in dealt.probabilities.items():
        np.testing.assert_array_equal(probabilities, gold.probabilities[picture[row]])
        np.testing.assert_array_equal(dealt.truth[row], gold.truth[row])
    assert dealt.texts == gold.texts, "these systems read texts alone"
    assert under("gold").probabilities.keys() == gold.probabilities.keys()
    for row, probabilities in under("gold").probabilities.items():
        np.testing.assert_array_equal(probabilities, gold.probabilities[row], err_msg="the deal is over")


def test_frames_before_a_shuffled_one_are_those_of_its_own_video(run_data):
    data = dataclasses.replace(
        run_data, config=dataclasses.replace(run_data.config, data=dataclasses.replace(run_data.config.data, frames=2))
    )
    view = data.records("test")
    rows = [i for i in range(len(view)) if view.record(i, image=False).image is not None][:4]
    own = next(data.batches(view, 4, rows=rows))
    shown = next(data.batches(view, 4, rows=rows, pictures={rows[0]: rows[3]}))
    np.testing.assert_array_equal(shown.image[0], own.image[3])
    np.testing.assert_array_equal(shown.image[1:], own.image[1:])
    np.testing.assert_array_equal(shown.uid, own.uid)


def test_their_scores_stand_under_their_names(run_data, echo, tmp_path):
    names = ("no_keyword", "no_context", "shuffled_texts", "shuffled_images")
    metrics = evaluate(echo, run_data, "test", tmp_path, contexts=names, progress=False)
    found = {tuple(key.split("/")[1:4:2]) for key in metrics if "/context/" in key}
    assert {("report", name) for name in names} <= found and ("landmarks", "shuffled_images") in found
    assert not found & {("describe", "no_keyword"), ("landmarks", "no_context")}
    value = metrics["toy/landmarks/f1_macro"]["value"]
    assert metrics["toy/landmarks/context/shuffled_images/f1_macro"]["value"] < value
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert all(set(line["report"]["contexts"]) == set(names) for line in lines if "report" in line)
