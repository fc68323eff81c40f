"""One job: train (or fit, or count) one system on one fold, score it, and write what the table needs of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from vlm_jax.checkpoint.store import DIRECTORY
from vlm_jax.config.schema import Config
from vlm_jax.data.files import to_json, write_bytes
from vlm_jax.data.run_data import RunData
from vlm_jax.decoding.system import System
from vlm_jax.evaluation.apart import check_apart
from vlm_jax.evaluation.run import evaluate, split_units
from vlm_jax.models.count import parameter_table
from vlm_jax.study.filler import fill
from vlm_jax.study.plan import Job, Plan
from vlm_jax.study.systems import trials_of
from vlm_jax.study.untrained import write_results, write_trivial
from vlm_jax.training.loop import train
from vlm_jax.training.writers import NAME as TRAINING_LOG

SUMMARY = "summary.json"
LOG = "log.txt"
NOTHING = "has nothing to be tested on in a fold"


def run_job(plan: Plan, job: Job) -> int:
    """Does what is left to do of the job; the exit code: 0 done, 3 preempted and saved. All talk goes to its log."""
    job.folder.mkdir(parents=True, exist_ok=True)
    with open(job.folder / LOG, "a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
        if job.system.parent:
            fill(plan.parent(job), job)
        elif not job.system.trained:
            write_trivial(plan, job)
        else:
            return _train_and_score(job)
    return 0


def _train_and_score(job: Job) -> int:
    config = job.config
    trials = {}
    for factor in trials_of(job.study, config):
        place = trial_folder(job, factor)
        code = _train(at_rate(config, factor), place)
        if code:
            return code
        trials[factor] = place
    system, factor = choose(trials)
    data = RunData.open(system.config, system.tokenizer, system.labels)
    check_apart(data, "test", system.meta)
    start = time.monotonic()
    summary = summarise(system, factor, trials, data)
    write_bytes(job.folder / SUMMARY, to_json(summary, indent=1))
    if any(split_units(data, "test", system.config.tasks).values()):
        evaluate(system, data, "test", job.results, contexts=job.study.contexts, progress=False)
    else:
        summary["notices"] += [NOTHING]
        write_results(job, {})
    write_bytes(job.folder / SUMMARY, to_json(summary | {"seconds_of_scoring": time.monotonic() - start}, indent=1))
    if not job.study.keep_checkpoints:
        for place in trials.values():
            shutil.rmtree(place / DIRECTORY, ignore_errors=True)
    return 0


def trial_folder(job: Job, factor: float) -> Path:
    """Where the training with this factor of the learning rate lies."""
    return job.folder / f"trial{factor:g}"


def at_rate(config: Config, factor: float) -> Config:
    """The configuration of a trial."""
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, lr=config.optim.lr * factor))


def _train(config: Config, place: Path) -> int:
    """Trains; what is compiled for one system is of no use to the next."""
    try:
        return train(config, str(place))
    finally:
        jax.clear_caches()


def choose(trials: dict[float, Path]) -> tuple[System, float]:
    """The trial whose best checkpoint has the lowest validation loss (the first of equals), for every system."""
    found = {factor: System.from_checkpoint(str(place), "best") for factor, place in trials.items()}
    factor = min(found, key=lambda f: _finite(found[f].meta["metrics"].get("loss")))
    return found[factor], factor


def _finite(loss: float | None) -> float:
    """A trial that diverged wins against none that did not."""
    return loss if loss is not None and math.isfinite(loss) else math.inf


def summarise(system: System, factor: float, trials: dict[float, Path], data: RunData) -> dict[str, Any]:
    """What the run was and what it cost; seconds are of steps alone, without compilation, validation and scoring."""
    config = system.config
    return {
        "parameters": parameter_table(system.params)["total"],
        "best_step": system.meta["step"],
        "steps": config.train.steps,
        "batch_size": config.train.batch_size,
        "learning_rate": config.optim.lr,
        "trials": len(trials),
        "factor": factor,
        "validation_loss": system.meta["metrics"].get("loss"),
        "training_records": len(data.records("train")),
        "image_size": config.data.image_size,
        "seconds_of_steps": sum(seconds_of_steps(place) for place in trials.values()),
        "device": jax.devices()[0].device_kind,
        "notices": list(data.notices),
    }


def seconds_of_steps(workdir: Path) -> float:
    """From the log: each row's seconds a step, times the steps since the row before."""
    total, last = 0.0, 0
    for row in training_rows(workdir):
        if "seconds_per_step" in row:
            total += (row["seconds_per_step"] or 0.0) * (row["step"] - last)
            last = row["step"]
    return total


def training_rows(workdir: Path) -> Iterator[dict[str, Any]]:
    """The rows of a run's log; none where it has none."""
    file = workdir / TRAINING_LOG
    for line in file.read_text().splitlines() if file.is_file() else ():
        yield json.loads(line)
