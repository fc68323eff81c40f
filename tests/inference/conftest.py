"""A system that answers from its prompts without a model, and small images."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vlm_jax.config.schema import Config, DataConfig, EvalConfig
from vlm_jax.contract import TASKS, LabelSpace
from vlm_jax.decoding.system import RawPrediction
from vlm_jax.text.tokenizer import Tokenizer

TEXTS = ["septum polyp meatus left right", "seen [start]", "none"]


class EchoSystem:
    """Every text answer repeats its prompt; the landmark score is the image's mean. Keeps the batches it saw."""

    def __init__(self, tasks=("landmarks", "describe", "anticipate", "report"), thresholds=None, eval_batch=4):
        data = DataConfig(image_size=8, prompt_length=40, target_length=8)
        self.config = Config(data=data, eval=EvalConfig(batch_size=eval_batch), tasks=tasks)
        self.tokenizer = Tokenizer.train(TEXTS, 60)
        self.labels = LabelSpace(("fess/septum", "fess/polyp"))
        self.thresholds = thresholds or {"fess/septum": 0.5, "fess/polyp": None}
        self.batches = []
        self.meta = {}

    def predict(self, batch):
        self.batches.append(batch)
        mean = batch.image.mean(axis=(1, 2, 3, 4)).astype(np.float32) / 255
        texts = {}
        for k, task in enumerate(TASKS[1:], 1):
            if task in self.config.tasks:
                row = 0 if task == "describe" else k
                texts[task] = [self._words(ids) + (" described" if task == "describe" else "")
                               for ids in batch.prompt[:, row]]  # fmt: skip
        return RawPrediction(
            probabilities=np.stack([mean, 1 - mean], -1) if "landmarks" in self.config.tasks else None,
            texts=texts,
            scores={task: np.linspace(-1, -2, len(mean)).astype(np.float32) for task in texts},
        )

    def _words(self, ids):
        names = {self.tokenizer.id(t): t for t in ("[NULL]", "[START]", "[SEP]", "[CLS]")}
        parts = []
        for special, run in itertools.groupby((int(i) for i in ids if i), key=lambda i: i in names):
            run = list(run)
            parts += [names[i] for i in run] if special else [self.tokenizer.decode(run)]
        return " ".join(parts)


@pytest.fixture
def echo():
    return EchoSystem


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (10, 12, 3), dtype=np.uint8) for _ in range(6)]


@pytest.fixture
def folder(tmp_path, arrays):
    """frames/{b,a}.png, frames/deep/c.JPG and a text file that is no image."""
    root = tmp_path / "frames"
    (root / "deep").mkdir(parents=True)
    Image.fromarray(arrays[0]).save(root / "b.png")
    Image.fromarray(arrays[1]).save(root / "a.png")
    Image.fromarray(arrays[2]).save(root / "deep" / "c.JPG", quality=95)
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def bad_images(tmp_path, arrays):
    """{what is wrong: path}."""
    root = tmp_path / "bad"
    root.mkdir()
    whole = root / "whole.jpg"
    Image.fromarray(np.tile(arrays[0], (8, 8, 1))).save(whole)
    (root / "cut.jpg").write_bytes(whole.read_bytes()[:700])
    Image.new("CMYK", (8, 8)).save(root / "cmyk.jpg")
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(root / "deep.png")
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.png").write_text("not an image")
    names = {"truncated": "cut.jpg", "CMYK": "cmyk.jpg", "16-bit": "deep.png", "empty": "empty.jpg",
             "not an image": "text.png", "no such image": "missing.jpg"}  # fmt: skip
    return SimpleNamespace(paths={k: root / v for k, v in names.items()}, whole=whole)
