"""Two small sources (simulated frames, real notes) and systems that answer from their prompts without a model."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from vlm_jax.config.load import load_config
from vlm_jax.contract import (
    TASKS,
    Activity,
    DatasetInfo,
    Frame,
    LabelSpace,
    Procedure,
    ProcedureBundle,
    Sentence,
    Video,
)
from vlm_jax.data.run_data import RunData
from vlm_jax.data.store import write_dataset
from vlm_jax.decoding.system import RawPrediction, probabilities

LABELS = ("red", "green", "blue", "never")
N_ACTIVITIES, N_FRAMES = 4, 3


def jpeg(landmarks) -> bytes:
    image = np.full((24, 24, 3), 20, np.uint8)
    for place in range(3):
        image[:, 8 * place : 8 * place + 8, place] = 230 if landmarks[place] else 20
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()


def frames_bundle(name: str) -> ProcedureBundle:
    """Four activities of three frames, each with a sentence. `green` is known in half the activities only."""
    place = int(name[1:])
    activities, sentences, frames = [], [], []
    for i in range(N_ACTIVITIES):
        code = (3 * place + i) % 8
        known = (code & 1, code >> 1 & 1 if i % 2 else None, code >> 2 & 1, 0)
        seen = tuple(v or 0 for v in known)
        uid, t0 = f"{name}-a{i}", 1000 * i
        text = f"view {code} of {name}" if place % 2 else f"view {code}"
        activities.append(Activity(uid, name, f"{name}-v", t0, t0 + 900, known, description=text))
        window = (t0, t0 + 900)
        sentences.append(
            Sentence(f"{name}-s{i}", name, f"noted {code}", f"step_{i}", *window, references=(f"told {code}",))
        )
        for j in range(N_FRAMES):
            frames.append(
                Frame(f"{uid}-f{j}", name, f"{name}-v", t0 + 300 * j, uid, True, jpeg(seen), seen, (0.2,) * 4)
            )
    return ProcedureBundle(
        Procedure(name, name, "toy"), (Video(f"{name}-v", name),), tuple(activities), tuple(sentences), frames
    )


@pytest.fixture(scope="session")
def toy_bundle():
    return frames_bundle


def notes_bundle(name: str) -> ProcedureBundle:
    sentences = tuple(Sentence(f"{name}-s{i}", name, f"note {i} of all", f"key_{i}") for i in range(3))
    return ProcedureBundle(Procedure(name, name, "notes"), sentences=sentences)


class Letters:
    """Stands for MiniLM, which takes seconds: the share of each letter."""

    name = "cosine_minilm"

    def embed(self, texts):
        counts = np.array([[text.lower().count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts], float)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


@pytest.fixture(scope="session", autouse=True)
def _quick_minilm():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlm_jax.evaluation.run.minilm", Letters)
        yield


@pytest.fixture(scope="session")
def data_paths(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluation")
    names = [f"p{i}" for i in range(14)]
    toy = DatasetInfo("toy", "simulated", LABELS, keywords=tuple(f"step_{i}" for i in range(N_ACTIVITIES)))
    notes = DatasetInfo("notes", "real", keywords=tuple(f"key_{i}" for i in range(3)))
    write_dataset(root / "toy", toy, names, frames_bundle, progress=False)
    write_dataset(root / "notes", notes, names, notes_bundle, progress=False)
    return root / "toy", root / "notes"


@pytest.fixture
def other_site(tmp_path):
    """Writes a data set of the source toy with the named patients, four activities of three frames each."""

    def build(*names):
        info = DatasetInfo("toy", "simulated", LABELS, keywords=tuple(f"step_{i}" for i in range(N_ACTIVITIES)))

        def bundle(name):
            made = frames_bundle(name)
            return dataclasses.replace(made, procedure=dataclasses.replace(made.procedure, patient=f"patient-{name}"))

        write_dataset(tmp_path / "other", info, names, bundle, progress=False)
        return str(tmp_path / "other")

    return build


@pytest.fixture(scope="session")
def run_data(data_paths):
    overrides = [("data.path", ",".join(map(str, data_paths))), ("data.split", "kfold:2:0"), ("eval.bootstrap", "200")]
    return RunData.open(load_config("configs/vlm.py:micro", [*overrides, ("eval.batch_size", "8")]))


class EchoSystem:
    """Writes `after <the words of its prompt>`; never sees a target.

    Landmarks come from the three stripes of the image; the fourth class never.
    """

    def __init__(self, data: RunData, tasks=TASKS, thresholds=None):
        self.config = dataclasses.replace(data.config, tasks=tuple(tasks), name="echo <b>")
        self.tokenizer, self.labels = data.tokenizer, LabelSpace(data.labels.names)
        self.sign = 1.0
        self.thresholds = dict.fromkeys(data.labels.names, 0.5) if thresholds is None else thresholds
        self.meta = {"step": 7}
        self.batches = 0
        self.asked = set()

    def probabilities(self, batch):
        size = batch.image.shape[2]
        row = batch.image[:, 0, size // 2].astype(np.float32)
        bright = [row[:, (2 * i + 1) * size // 6, i] for i in range(3)]
        return probabilities((np.stack([*bright, np.zeros(len(row))], axis=1) - 120.0) / 20 * self.sign)

    def predict(self, batch, tasks=None):
        self.batches += 1
        self.asked.add(tasks)
        size, texts = len(batch.valid), {}
        for k, task in enumerate(TASKS):
            if k and task in self.config.tasks and (tasks is None or task in tasks):
                texts[task] = [self._echo(ids) for ids in np.asarray(batch.prompt)[:, k]]
        scores = {task: np.full(size, -0.5, np.float32) for task in texts}
        return RawPrediction(None, texts, scores)

    def _echo(self, ids) -> str:
        marks = {self.tokenizer.id("[NULL]"): "nothing", self.tokenizer.id("[START]"): "start"}
        marked = " ".join(marks[int(i)] for i in ids if int(i) in marks)
        return " ".join(f"after {self.tokenizer.decode([int(i) for i in ids])} {marked}".split())


@pytest.fixture
def echo(run_data):
    return EchoSystem(run_data)


@pytest.fixture
def make_echo():
    return EchoSystem


@pytest.fixture(scope="session")
def results(run_data, tmp_path_factory, _quick_minilm):
    """(metrics, directory) of the echo system on the test split."""
    from vlm_jax.evaluation.run import evaluate

    out = tmp_path_factory.mktemp("results") / "eval" / "test"
    return evaluate(EchoSystem(run_data), run_data, "test", out, progress=False), out
