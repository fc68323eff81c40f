"""A finished study without training: a toy source, and what systems of known quality would have predicted."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from vlm_jax.config.study import StudyConfig, StudyData
from vlm_jax.contract import Activity, DatasetInfo, Frame, Procedure, ProcedureBundle, Sentence, Video
from vlm_jax.data.store import write_dataset
from vlm_jax.evaluation.run import METRICS, PREDICTIONS, split_units
from vlm_jax.study.jobs import SUMMARY
from vlm_jax.study.plan import make_plan
from vlm_jax.study.runner import Runner
from vlm_jax.study.untrained import base_row, open_fold, said, write_rows

LABELS = ("red", "green", "blue")
SYSTEMS = {"base@tiny": 0.9, "no_image@tiny": 0.5, "landmark_cnn@tiny": 0.7, "keyword_report@tiny": 0.5}
"""System -> how often it is right."""


def picture(seed, size=48):
    """A picture that no other seed makes."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def jpeg(pixels, quality=92):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def bundle(place, image_of=None, report=None, patient=None):
    """Four activities of two frames, a sentence each."""
    name = f"p{place}"
    image_of = image_of or (lambda i, j: jpeg(picture(100 * place + 10 * i + j)))
    activities, sentences, frames = [], [], []
    for i in range(4):
        code = (3 * place + i) % 7 + 1
        known = (code & 1, code >> 1 & 1, code >> 2 & 1)
        text = ", ".join([f"view {i}", *(f"{n} visible" for n, v in zip(LABELS, known, strict=True) if v)])
        window = (1000 * i, 1000 * i + 900)
        activities.append(Activity(f"{name}-a{i}", name, f"{name}-v", *window, known, description=text))
        words = report[i] if report else f"case {place} noted {code} words {place * i} at {code * place}"
        sentences.append(Sentence(f"{name}-s{i}", name, words, f"step_{i}", *window))
        for j in range(2):
            uid = f"{name}-a{i}-f{j}"
            at = 1000 * i + 300 * j
            frames.append(
                Frame(uid, name, f"{name}-v", at, f"{name}-a{i}", True, image_of(i, j), known, (0.2, 0.2, 0.2))
            )
    owner = Procedure(name, patient or f"{name}-patient", "toy")
    return ProcedureBundle(owner, (Video(f"{name}-v", name),), tuple(activities), tuple(sentences), frames)


@pytest.fixture(scope="session", autouse=True)
def _no_minilm():
    """MiniLM takes seconds, and none of these tests is about it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlm_jax.study.scores.minilm", lambda: None)
        patch.setattr("vlm_jax.evaluation.run.minilm", lambda: None)
        yield


@pytest.fixture(scope="session")
def write_toy():
    """write(directory, bundles): a data set of them."""

    def write(directory, bundles):
        info = DatasetInfo("toy", "simulated", LABELS, keywords=tuple(f"step_{i}" for i in range(4)))
        by_id = {b.procedure.id: b for b in bundles}
        write_dataset(directory, info, list(by_id), by_id.__getitem__, progress=False)
        return str(directory)

    return write


@pytest.fixture(scope="session")
def toy(tmp_path_factory, write_toy):
    return write_toy(tmp_path_factory.mktemp("study-data") / "toy", [bundle(i) for i in range(14)])


@pytest.fixture(scope="session")
def make_study(toy):
    """A study of the toy data, with whatever is to be different."""

    def make(**changes):
        table = tuple(f"{name}=configs/vlm.py:micro" for name in SYSTEMS) + (
            "template_filler@tiny=template_filler:base@tiny",
        )
        study = StudyConfig(
            name="toy <b>", table=table, data=StudyData(path=(toy,)), folds=2, seeds=(0, 1), bootstrap=300, coverage=3
        )
        return dataclasses.replace(study, **changes)

    return make


def answer_as(job, quality):
    """Writes what a system that is right with probability `quality` would have."""
    data = open_fold(job)
    random = np.random.default_rng([job.fold, job.seed, int(100 * quality)])
    rows = {}
    units = split_units(data, "test", ("landmarks", "describe", "anticipate", "report"))
    for unit in units["landmarks"]:
        truth = np.array(unit.record.landmarks)
        right = random.random(3) < quality
        score = np.where(right == truth, 0.55 + 0.4 * random.random(3), 0.05 + 0.4 * random.random(3))
        base_row(rows, unit)["landmarks"] = {
            name: {
                "score": float(score[c]),
                "threshold": 0.5,
                "predicted": bool(score[c] >= 0.5),
                "true": bool(truth[c]),
                "contexts": {"rolled_out": float(score[c]) * 0.9, "empty": float(score[c]) * 0.8},
            }
            for c, name in enumerate(LABELS)
        }
    for task in ("describe", "anticipate", "report"):
        for unit in units[task]:
            entry = said(task, unit, "", ("gold", "rolled_out", "empty"))
            words = entry["true"].split()
            entry["predicted"] = " ".join(w if random.random() < quality else "wrong" for w in words)
            entry["score"] = float(random.normal(quality - 1, 0.1))
            base_row(rows, unit)[task] = entry
    job.results.mkdir(parents=True)
    write_rows(job.results / PREDICTIONS, rows)
    place = job.folder / "trial1"
    place.mkdir()
    log = [{"step": s, "loss": 3.0 / s, "seconds_per_step": 0.1} for s in (1, 5, 10)]
    log.append({"step": 10, "validation/loss": 0.5})
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    summary = {"parameters": 1234567, "steps": 10, "batch_size": 8, "trials": 1, "image_size": 32, "best_step": 10}
    (job.folder / SUMMARY).write_text(json.dumps(summary | {"factor": 1.0, "seconds_of_steps": 1.0}))
    factual = {"value": quality, "n_units": 8, "n_groups": 7, "low": None, "high": None}
    metrics = {
        "toy/report/fact_precision": factual,
        "toy/report/trivial/end/bleu2": factual,
        "toy/report/bleu2": factual,
    }
    (job.results / METRICS).write_text(json.dumps(metrics))


@pytest.fixture(scope="session")
def finished(tmp_path_factory, make_study, _no_minilm):
    """The plan of a study whose every run is done; the untrained systems are the study's own."""
    plan = make_plan(make_study(), tmp_path_factory.mktemp("study"))
    for job in plan.jobs():
        if job.system.trained:
            answer_as(job, SYSTEMS[job.system.name])
    assert Runner(plan).run() == 0
    return plan


@pytest.fixture(scope="session")
def assembled(finished):
    """The same with its table and its report."""
    from vlm_jax.study.run import assemble

    assemble(finished)
    return finished
