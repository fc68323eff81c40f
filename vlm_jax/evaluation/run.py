"""`evaluate`: a system over the units of a split, into eval/<split>/{metrics.json, predictions.jsonl, report.html}."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from vlm_jax.contract import TEXT_TASKS, Record
from vlm_jax.data.files import disk_faults, write_bytes
from vlm_jax.data.run_data import RunData
from vlm_jax.decoding.system import System
from vlm_jax.errors import UserError
from vlm_jax.evaluation.answers import CONTEXTS, Answerer
from vlm_jax.evaluation.predictions import prediction_rows
from vlm_jax.evaluation.report import Page, report_html
from vlm_jax.evaluation.scoring import Metrics, Scorer
from vlm_jax.evaluation.thresholds import choose_thresholds
from vlm_jax.evaluation.units import END_WORD, Unit, activity_key, find_units
from vlm_jax.metrics.similarity import Similarity, TfidfSimilarity, minilm

METRICS, PREDICTIONS, REPORT = "metrics.json", "predictions.jsonl", "report.html"


def evaluate(
    system: System,
    data: RunData,
    split: str,
    out: str | os.PathLike[str],
    *,
    contexts: Sequence[str] | None = None,
    progress: bool = True,
    reference: RunData | None = None,
) -> Metrics:
    """Scores a system on a split and writes the results.

    Args:
      split: train, validation, test, or all.
      out: the directory of the results, local or gs://; made if absent. Files of an earlier evaluation are replaced,
        each at once.
      contexts: of `CONTEXTS`; gold is always among them, for the main scores are its. None = `eval.contexts`.
      progress: say on stderr how far it is.
      reference: the data of the training run, where `data` are others: trivial systems, tf-idf, class shares and
        missing thresholds come from its training and validation records. By default from those of `data`.

    Returns:
      {`<source>/<task>/<metric>`: {value, low, high, n_units, n_groups, group_level, unit, world}}.

    Raises:
      UserError: an unknown context, nothing in the split to score, or a file where `out` should be.
      EnvironmentFault: the disk is full.
    """
    folder = _results_folder(out)
    wanted = _contexts(system.config.eval.contexts if contexts is None else contexts)
    units = split_units(data, split, system.config.tasks)
    _check_some(units, split, system)
    reference = reference or data
    thresholds = system.thresholds or fit_thresholds(system, reference, progress=progress)
    answerer = Answerer(system, data, split, progress=progress, reference=reference)
    answers = {context: answerer.answer(units, context) for context in wanted}
    scorer = _scorer(system, data, reference, thresholds)
    metrics = scorer.score(units, answers)
    if not metrics:
        first = next(iter(data.broken.values()), f"no record has an answer{_strangers(data)}")
        raise UserError(f"nothing of {_part(split)} could be scored: {first}")
    unread = (*_broken(data), *_unread_masks(answers["gold"].unread_masks))
    for notice in unread:
        print(notice, file=sys.stderr, flush=True)
    view = data.records(split)
    rows = prediction_rows(units, answers, data.labels, thresholds, scorer.worlds)
    page = _page(system, data, split, scorer, metrics, unread)
    _write(folder, metrics, rows, report_html(page, rows, lambda row: view.record(row).image))
    return metrics


def _page(system: System, data: RunData, split: str, scorer: Scorer, metrics: Metrics, unread: tuple[str, ...]) -> Page:
    return Page(
        name=system.config.name,
        split=split,
        metrics=metrics,
        curves=scorer.curves,
        worlds={name: info.full_world for name, info in data.sources.items()},
        thresholds=scorer.thresholds,
        meta=system.meta,
        notices=(*data.notices, *unread),
    )


def _strangers(data: RunData) -> str:
    """Why none of the data's labels is one of the model's, where that is so."""
    columns = data.columns
    strange = [s for s, info in data.sources.items() if info.labels and not (columns[s] >= 0).any()]
    if not strange:
        return ""
    known = sorted({name.partition("/")[0] for name in data.labels.names})
    return (
        f". A label is the model's where source and name agree: the model's are of {', '.join(known)}, these data of "
        f"{', '.join(strange)}; build them with the model's source and names (docs/own-data.md)"
    )


def _check_some(units: Mapping[str, Sequence[Unit]], split: str, system: System) -> None:
    if not any(units.values()):
        raise UserError(
            f"nothing to evaluate: {_part(split)} has no record that carries one of the model's tasks "
            f"({', '.join(system.config.tasks)}); see data.split, or evaluate another --split"
        )


def _part(split: str) -> str:
    return "the data" if split == "all" else f"the {split} split"


def split_units(data: RunData, split: str, tasks: Sequence[str]) -> dict[str, list[Unit]]:
    """The units of the given tasks in a split; empty lists for the others."""
    view = data.records(split)
    found = find_units(range(len(view)), lambda row: view.record(row, image=False), view.sentence_place)
    return {task: some if task in tasks else [] for task, some in found.items()}


def fit_thresholds(system: System, data: RunData, *, progress: bool = False) -> dict[str, float | None]:
    """Thresholds from the whole validation split; {} without landmarks in it."""
    if "landmarks" not in system.config.tasks:
        return {}
    frames = split_units(data, "validation", ("landmarks",))["landmarks"]
    answers = Answerer(system, data, "validation", progress=progress).classify(frames)
    scored = [u for u in frames if u.row in answers.probabilities]
    if not scored:
        return {}
    score, truth, known = (
        np.stack([table[u.row] for u in scored]) for table in (answers.probabilities, answers.truth, answers.known)
    )
    activities = [activity_key(u.record) for u in scored]
    return choose_thresholds(score, truth, known, activities, data.labels, data.label_counts())


def _broken(data: RunData) -> tuple[str, ...]:
    return (f"{len(data.broken)} records could not be read and are left out of every score",) if data.broken else ()


def _unread_masks(n: int) -> tuple[str, ...]:
    said = f"{n} mask{'s' if n > 1 else ''} could not be read; such frames are not scored on places"
    return (f"{said}: `vlm-jax data check DIR` names them",) if n else ()


def _contexts(asked: Sequence[str]) -> tuple[str, ...]:
    unknown = [c for c in asked if c not in CONTEXTS]
    if unknown:
        raise UserError(f"unknown context {unknown[0]!r}; expected some of {', '.join(CONTEXTS)}")
    return tuple(c for c in CONTEXTS if c == "gold" or c in asked)


def _scorer(system: System, data: RunData, reference: RunData, thresholds: Mapping[str, float | None]) -> Scorer:
    training: dict[str, list[Record]] = {
        task: [u.record for u in some] for task, some in split_units(reference, "train", TEXT_TASKS).items()
    }
    return Scorer(
        labels=data.labels,
        names={name: info.labels for name, info in data.sources.items()},
        thresholds=thresholds,
        training=training,
        label_counts=reference.label_counts(),
        worlds={name: info.world for name, info in data.sources.items()},
        simulators={name: info.simulator for name, info in data.sources.items()},
        group_levels=data.group_levels,
        similarities=_similarities(reference) if set(system.config.tasks) & set(TEXT_TASKS) else (),
        resamples=system.config.eval.bootstrap,
        seed=system.config.seed,
    )


def _similarities(data: RunData) -> tuple[Similarity, ...]:
    """tf-idf on the training texts and the word for an end where there are any, and MiniLM where it is installed."""
    texts = list(data.train_texts())
    embedded = minilm()
    fitted = (TfidfSimilarity([*texts, END_WORD]),) if any(t.strip() for t in texts) else ()
    return fitted + ((embedded,) if embedded else ())


def _results_folder(out: str | os.PathLike[str]) -> epath.Path:
    """Where the results go; UserError, before anything is computed, if that can't be a directory or be written to."""
    folder = epath.Path(out)
    there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    if there is not None and not there.is_dir():
        raise UserError(f"--out: '{there}' is a file, and the results are several: name a directory")
    if there is not None and "://" not in os.fspath(there) and not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"no permission to write in '{there}': choose another --out")
    return folder


def _write(out: epath.Path, metrics: Metrics, rows: Sequence[Mapping[str, Any]], html: str) -> None:
    """The three files, each whole or not at all; metrics.json last, for it says that the evaluation is done."""
    lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    numbers = json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with disk_faults(out, again="evaluate again: scores are computed anew, an earlier metrics.json stands"):
        out.mkdir(parents=True, exist_ok=True)
        for name, text in ((PREDICTIONS, lines), (REPORT, html), (METRICS, numbers)):
            if "://" in os.fspath(out):
                (out / name).write_bytes(text.encode())  # an object store shows an object when it is whole
            else:
                write_bytes(Path(out / name), text.encode())
