"""Out-of-fold predictions of a system, pooled: every unit of the data once, answered by the run that never saw it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.contract import TEXT_TASKS
from vlm_jax.errors import UserError
from vlm_jax.evaluation.run import PREDICTIONS
from vlm_jax.evaluation.units import UNIT_NAMES, as_scored, counted
from vlm_jax.study.plan import Job, Plan
from vlm_jax.study.untrained import read_rows
from vlm_jax.study.variants import Variant

GOLD = "gold"
TRIVIAL_PREFIX = "trivial/"
"""Of the names of trivial systems in tables."""
SHOWN = 3


@dataclass
class FrameAnswers:
    """Landmarks of one system, one seed, one source.

    Attributes:
      classes: bare names. units: {uid: (group, truth bool[C], known bool[C], fold)}.
      scores, chosen: {context: {uid: float[C] or bool[C]}}.
    """

    classes: tuple[str, ...]
    units: dict[str, tuple[str, np.ndarray, np.ndarray, int]] = field(default_factory=dict)
    scores: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    chosen: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)


@dataclass
class TextAnswers:
    """Sentences of one task, one system, one seed, one source.

    Attributes:
      units: {key: (group, references, fold)}. texts: {context: {key: text}}.
      confidence: {key: mean log-probability}, where the system has one.
    """

    units: dict[str, tuple[str, tuple[str, ...], int]] = field(default_factory=dict)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    confidence: dict[str, float] = field(default_factory=dict)


Scope = tuple[str, str]
"""(source, task)."""
Pooled = dict[Scope, Any]
"""{scope: FrameAnswers or TextAnswers}."""


def pooled_systems(plan: Plan, variant: Variant) -> Iterator[tuple[str, str, list[Pooled]]]:
    """(name in tables, what it started from, one `Pooled` a seed) of every system; a trivial system has one seed."""
    for system in plan.systems:
        if system.trained or system.parent:
            seeds = [_pool(plan, variant, system.name, seed, PREDICTIONS) for seed in plan.study.seeds]
            yield system.shown, system.init, seeds
            continue
        seed = plan.study.seeds[0]
        jobs = [plan.job(variant, system, fold, seed) for fold in range(len(variant.folds))]
        for file in sorted({file.name for job in jobs for file in job.results.glob("*.jsonl")}):
            pooled = _pool(plan, variant, system.name, seed, file)
            yield f"{TRIVIAL_PREFIX}{Path(file).stem}", system.init, [pooled]


def common_units(systems: Mapping[str, Sequence[Pooled]]) -> tuple[dict[Scope, list[str]], dict[Scope, list[str]]]:
    """({scope: sorted keys that all are scored on}, {scope: sentences on what is missing and why}).

    The trained systems decide, by what every one of them with that task has answered. A trivial one that lacks some of
    it (fitted on a fold without such texts, say) is taken out of `systems` there: no unit goes for it.
    """
    found: dict[Scope, list[str]] = {}
    notes: dict[Scope, list[str]] = {}
    for scope in dict.fromkeys(scope for seeds in systems.values() for scope in seeds[0]):
        answered = {
            name: set[str].intersection(*(set(pooled[scope].units) for pooled in seeds))
            for name, seeds in systems.items()
            if scope in seeds[0]
        }
        trained = {name: keys for name, keys in answered.items() if not name.startswith(TRIVIAL_PREFIX)}
        common = set[str].intersection(*trained.values()) if trained else max(answered.values(), key=len)
        everything, said = set[str].union(*answered.values()), notes.setdefault(scope, [])
        if dropped := len(everything - common):
            names = [name for name, keys in (trained or answered).items() if everything - keys]
            some = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
            size = counted(len(everything), UNIT_NAMES[scope[1]])
            said.append(f"{dropped} of {size} are scored for no system, for these have not answered all: {some}")
        for name, keys in answered.items():
            if common - keys:  # a trivial one
                said.append(f"{name} is left out, for it has not answered {len(common - keys)} of them")
                for pooled in systems[name]:
                    del pooled[scope]
        found[scope] = sorted(common)
    return found, notes


def _pool(plan: Plan, variant: Variant, name: str, seed: int, file: str) -> Pooled:
    system = next(s for s in plan.systems if s.name == name)
    pooled: Pooled = {}
    for fold in range(len(variant.folds)):
        job = plan.job(variant, system, fold, seed)
        for row in _rows(job, file):
            if "landmarks" in row:
                _add_frame(pooled, row, fold)
            for task in TEXT_TASKS:
                if task in row:
                    _add_text(pooled, task, row, fold)
    return pooled


def _rows(job: Job, file: str) -> list[dict[str, Any]]:
    path: Path = job.results / file
    return read_rows(path) if path.is_file() else []


def _add_frame(pooled: Pooled, row: Mapping[str, Any], fold: int) -> None:
    said = row["landmarks"]
    answers = pooled.setdefault((row["source"], "landmarks"), FrameAnswers(tuple(said)))
    known = np.array([entry["true"] is not None for entry in said.values()])
    truth = np.array([bool(entry["true"]) for entry in said.values()])
    _once(answers.units, row["uid"])
    answers.units[row["uid"]] = row["group"], truth, known, fold
    for context in (GOLD, *next(iter(said.values())).get("contexts", {})):
        score = np.array([e["score"] if context == GOLD else e["contexts"][context] for e in said.values()])
        cut = np.array([np.inf if e["threshold"] is None else e["threshold"] for e in said.values()])
        answers.scores.setdefault(context, {})[row["uid"]] = score
        answers.chosen.setdefault(context, {})[row["uid"]] = score >= cut


def _add_text(pooled: Pooled, task: str, row: Mapping[str, Any], fold: int) -> None:
    answers = pooled.setdefault((row["source"], task), TextAnswers())
    said = row[task]
    name = (row["sentence"] if task == "report" else row["activity"]) or row["uid"]
    key = f"{row['procedure']}\t{name}"
    _once(answers.units, key)
    answers.units[key] = row["group"], (as_scored(said["true"] or ""), *said["references"]), fold
    for context, text in {GOLD: said["predicted"], **said["contexts"]}.items():
        answers.texts.setdefault(context, {})[key] = as_scored(text)
    if said["score"] is not None:
        answers.confidence[key] = said["score"]


def _once(units: Mapping[str, Any], key: str) -> None:
    if key in units:
        raise UserError(f"'{key}' was tested on in two folds: pooled scores would count it twice; check the fold files")
