"""What stands in a prompt when a system goes on from its own words, and where it can't."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from vlm_jax.data import joins
from vlm_jax.data.record_table import RecordTable
from vlm_jax.data.records import build_records
from vlm_jax.evaluation.answers import Answerer
from vlm_jax.evaluation.run import evaluate, split_units
from vlm_jax.evaluation.units import find_units


def test_frames_of_a_rolled_out_activity_read_the_own_description(run_data, echo):
    units = split_units(run_data, "test", echo.config.tasks)
    answerer = Answerer(echo, run_data, "test")
    seen = {}

    def watch(batch):
        for ids in np.asarray(batch.prompt)[:, 0]:
            seen[echo._echo(ids)] = True
        return type(echo).probabilities(echo, batch)

    echo.probabilities = watch
    answerer.answer(units, "rolled_out")
    told = {t for t in seen if t.startswith("after after")}
    assert told and "after start" in seen
    assert not any("view" in t for t in seen)  # no gold description is left in any frame's prompt


def test_what_has_nothing_to_roll_out_has_no_such_score(run_data, make_echo, tmp_path):
    """Without describe among the tasks the previous and current descriptions would be nobody's."""
    system = make_echo(run_data, tasks=("landmarks", "anticipate", "report"))
    metrics = evaluate(system, run_data, "test", tmp_path, progress=False)
    rolled = {key.split("/")[1] for key in metrics if "/context/rolled_out/" in key}
    empty = {key.split("/")[1] for key in metrics if "/context/empty/" in key}
    assert rolled == {"report"} and empty == {"landmarks", "anticipate", "report"}
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert all(set(line["anticipate"]["contexts"]) == {"empty"} for line in lines if "anticipate" in line)


def test_a_report_rolls_out_as_written_and_not_by_the_clock(run_data):
    """Here the last sentence's evidence comes first in the video."""
    part = run_data.parts[0]
    reversed_windows = {}
    for rows in part._reports.values():
        windows = [(part.dataset.tables.sentences[i].t0, part.dataset.tables.sentences[i].t1) for i in rows]
        reversed_windows |= dict(zip(rows, windows[::-1], strict=True))
    sentences = tuple(
        dataclasses.replace(s, t0=reversed_windows[i][0], t1=reversed_windows[i][1])
        for i, s in enumerate(part.dataset.tables.sentences)
    )
    tables = dataclasses.replace(part.dataset.tables, sentences=sentences)
    moved = build_records(dataclasses.replace(part.dataset, tables=tables), run_data.config.data)
    view = RecordTable([moved], [moved.groups("patient")])
    units = find_units(range(len(view)), lambda row: view.record(row, image=False), view.sentence_place)["report"]
    one = [u for u in units if u.record.procedure == units[0].record.procedure]
    assert [u.key.rsplit("-", 1)[1] for u in one] == ["s3", "s2", "s1", "s0"]  # by the clock
    assert [u.order for u in one] == [3, 2, 1, 0]  # as written


def test_the_previous_description_is_one_however_long_a_report_context_is(run_data, echo, monkeypatch):
    monkeypatch.setattr(joins, "CONTEXT_SENTENCES", 3)
    answers = Answerer(echo, run_data, "test").answer(split_units(run_data, "test", ("describe",)), "rolled_out")
    # Each answer repeats what stood in its prompt: with one description before, words grow by one a step.
    assert {text.count("after") for text in answers.texts["describe"].values()} == {1, 2, 3, 4}
    assert max(text.count("start") for text in answers.texts["describe"].values()) == 1
