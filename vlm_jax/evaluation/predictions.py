"""predictions.jsonl: one object a unit, with what was predicted and what was true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlm_jax.contract import TEXT_TASKS, LabelSpace
from vlm_jax.decoding.boxes import box_of
from vlm_jax.evaluation.answers import Answers
from vlm_jax.evaluation.units import Unit
from vlm_jax.tasks import TASK_TABLE


def prediction_rows(
    units: Mapping[str, Sequence[Unit]],
    answers: Mapping[str, Answers],
    labels: LabelSpace,
    thresholds: Mapping[str, float | None],
    worlds: Mapping[str, str],
) -> list[dict[str, Any]]:
    """One object a scored row, in the order of rows; a frame that stands for several tasks carries them all.

    `worlds` says of each source whether it is real or simulated.
    Landmarks: {name: {score, threshold, predicted, true, contexts: {name: score}}}, predicted None where abstained and
    true None where unknown; of a model that marks places {area, box}, too, as in a prediction, and where
    the frame has a mask {true_area, true_box}, on the same places; null for a landmark of which nothing is known.
    Texts: {predicted, score, true, references, prompt, contexts: {name: text}}, under `prompt` what was known before;
    a context in which there is no answer is not among them.
    """
    rows: dict[int, dict[str, Any]] = {}
    gold = answers["gold"]
    for unit in units["landmarks"]:
        if unit.row in gold.probabilities:
            _row(rows, unit, worlds)["landmarks"] = _landmarks(unit, answers, labels, thresholds)
    for task in TEXT_TASKS:
        for unit in units[task]:
            if unit.row in gold.texts[task]:
                _row(rows, unit, worlds)[task] = _sentence(task, unit, answers)
    return [rows[row] for row in sorted(rows)]


def _row(rows: dict[int, dict[str, Any]], unit: Unit, worlds: Mapping[str, str]) -> dict[str, Any]:
    record = unit.record
    base = {
        "source": record.source,
        "world": worlds[record.source],
        "procedure": record.procedure,
        "group": record.group,
        "activity": record.activity,
        "sentence": record.sentence,
        "uid": record.uid,
        "row": unit.row,
    }
    return rows.setdefault(unit.row, base)


def _landmarks(
    unit: Unit, answers: Mapping[str, Answers], labels: LabelSpace, thresholds: Mapping[str, float | None]
) -> dict[str, dict[str, Any]]:
    said: dict[str, dict[str, Any]] = {}
    gold = answers["gold"]
    others = {k: a.probabilities[unit.row] for k, a in answers.items() if k != "gold" and unit.row in a.probabilities}
    for c in labels.slots(unit.record.source):
        name, score = labels.names[c], float(gold.probabilities[unit.row][c])
        threshold = thresholds.get(name)
        said[name.split("/", 1)[1]] = {
            "score": score,
            "threshold": threshold,
            "predicted": None if threshold is None else bool(score >= threshold),
            "true": bool(gold.truth[unit.row][c]) if gold.known[unit.row][c] else None,
            "contexts": {context: float(score[c]) for context, score in others.items()},
        }
        for prefix, boxes in (("", gold.boxes), ("true_", gold.true_boxes)):
            if unit.row in boxes:
                place = boxes[unit.row][c]
                known = not prefix or gold.known[unit.row][c]
                about = (float(place[0]), box_of(place)) if known else (None, None)
                said[name.split("/", 1)[1]] |= dict(zip((f"{prefix}area", f"{prefix}box"), about, strict=True))
    return said


def _sentence(task: str, unit: Unit, answers: Mapping[str, Answers]) -> dict[str, Any]:
    gold = answers["gold"]
    score = gold.scores[task][unit.row]
    return {
        "predicted": gold.texts[task][unit.row],
        "score": score if np.isfinite(score) else None,
        "true": TASK_TABLE[task].target(unit.record),
        "references": list(unit.record.references) if task == "report" else [],
        "prompt": list(TASK_TABLE[task].prompt(unit.record)),
        "contexts": {
            name: a.texts[task][unit.row] for name, a in answers.items() if name != "gold" and unit.row in a.texts[task]
        },
    }
