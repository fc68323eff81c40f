"""Jobs that train nothing: the trivial scores, and the rows of predictions that such systems write.

Each trivial answer stands in the table as a system of its own, `trivial/most_frequent` say, fitted on the training
groups of each fold and pooled like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.contract import TASKS, TEXT_TASKS
from vlm_jax.data.files import to_json, write_bytes
from vlm_jax.data.run_data import RunData
from vlm_jax.evaluation.run import METRICS, PREDICTIONS, split_units
from vlm_jax.evaluation.trivial import trivial_labels, trivial_texts
from vlm_jax.evaluation.units import Unit, references
from vlm_jax.study.plan import Job, Plan
from vlm_jax.tasks import TASK_TABLE

HALF = 0.5

Rows = dict[int, dict[str, Any]]


def open_fold(job: Job) -> RunData:
    """The data of a job."""
    return RunData.open(job.config)


def write_trivial(plan: Plan, job: Job) -> None:
    """One file of predictions a trivial system, then an empty metrics.json, which says that the job is done."""
    del plan
    data = open_fold(job)
    units = split_units(data, "test", TASKS)
    training = {task: [u.record for u in some] for task, some in split_units(data, "train", TEXT_TASKS).items()}
    found: dict[str, Rows] = {}
    for source in data.sources:
        frames = [u for u in units["landmarks"] if u.record.source == source]
        slots = data.labels.slots(source)
        positives, negatives = (of[slots] for of in data.label_counts())
        for name, score in trivial_labels(positives, negatives, len(frames)).items() if frames and len(slots) else ():
            for unit, row in zip(frames, score, strict=True):
                found.setdefault(name, {})
                base_row(found[name], unit)["landmarks"] = _said(data, unit, row)
        for task in TEXT_TASKS:
            chosen = [u for u in units[task] if u.record.source == source]
            same = [r for r in training[task] if r.source == source]
            for name, answer in trivial_texts(task, same).items() if chosen else ():
                found.setdefault(name, {})
                for unit, text in zip(chosen, answer([u.record for u in chosen]), strict=True):
                    base_row(found[name], unit)[task] = said(task, unit, text, ())
    job.results.mkdir(parents=True, exist_ok=True)
    for name, rows in found.items():
        write_rows(job.results / f"{name}.jsonl", rows)
    write_bytes(job.results / METRICS, to_json({}))


def write_results(job: Job, rows: Rows) -> None:
    """The predictions of a job, and an empty metrics.json, which says that it is done."""
    job.results.mkdir(parents=True, exist_ok=True)
    write_rows(job.results / PREDICTIONS, rows)
    write_bytes(job.results / METRICS, to_json({}))


def base_row(rows: Rows, unit: Unit) -> dict[str, Any]:
    """The row of a unit's frame, as `evaluation.predictions` writes it."""
    record = unit.record
    names = ("source", "procedure", "group", "activity", "sentence", "uid")
    return rows.setdefault(unit.row, {name: getattr(record, name) for name in names} | {"row": unit.row})


def said(task: str, unit: Unit, text: str, contexts: Iterable[str]) -> dict[str, Any]:
    """What is written of one text; `contexts` are those in which the answer is the same, for it reads none."""
    return {
        "predicted": text,
        "score": None,
        "true": TASK_TABLE[task].target(unit.record),
        "references": list(references(task, unit.record)[1:]),
        "contexts": dict.fromkeys((c for c in contexts if c != "gold"), text),
    }


def _said(data: RunData, unit: Unit, score: np.ndarray) -> dict[str, Any]:
    labels: Sequence[Any] = unit.record.landmarks or ()
    names = data.sources[unit.record.source].labels
    true: Mapping[str, Any] = dict(zip(names, labels, strict=False))
    return {
        name: {
            "score": float(value),
            "threshold": HALF,
            "predicted": bool(value >= HALF),
            "true": None if true.get(name) is None else bool(true[name]),
        }
        for name, value in zip(names, score, strict=True)
    }


def write_rows(file: Path, rows: Rows) -> None:
    """predictions.jsonl, whole or not at all."""
    lines = "".join(json.dumps(rows[row], ensure_ascii=False, allow_nan=False) + "\n" for row in sorted(rows))
    write_bytes(file, lines.encode())


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of one file of predictions."""
    with open(file, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
