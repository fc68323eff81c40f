"""Every baseline through the commands: train, evaluate, predict, export, and the export in place of the run.

Rows that take more than a few seconds, or differ from another only in a layer, are slow.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm_jax.cli import main
from vlm_jax.config.load import load_config
from vlm_jax.config.rules import TEXT_ONLY
from vlm_jax.contract import TEXT_TASKS
from vlm_jax.evaluation import run as evaluation

QUESTIONS = {"keyword": "septal deviation", "context": "[START]", "previous": "[START]", "current": "right view"}
BASELINES = "configs/baselines"


@dataclass(frozen=True)
class Row:
    """`spec` as `--config` takes it; `overrides` go on top of `SHORT`; `exported`: not only in the slow tests."""

    spec: str
    overrides: dict[str, str] = field(default_factory=dict)
    slow: bool = False
    exported: bool = False


SEQUENCE = {"model.seq2seq.width": "16", "model.seq2seq.layers": "1", "model.seq2seq.mlp": "32", "eval.beam": "2"}
GPT = {
    "model.gpt.width": "16",
    "model.gpt.layers": "1",
    "model.gpt.heads": "2",
    "model.gpt.head_width": "8",
    "model.backbone.width_factor": "0.125",
    "model.backbone.depths": "1,1,1,1",
}
VIT = {
    "model.image_encoder.width": "16",
    "model.image_encoder.layers": "1",
    "model.image_encoder.heads": "2",
    "model.image_encoder.mlp": "32",
}
CODER = {
    "model.text_encoder.width": "16",
    "model.text_encoder.layers": "1",
    "model.text_encoder.heads": "2",
    "model.text_encoder.mlp": "32",
    "model.decoder.layers": "1",
    "model.decoder.heads": "2",
    "model.decoder.mlp": "32",
    "model.fusion_heads": "2",
}
CNN = {"model.backbone.width_factor": "0.125", "model.backbone.depths": "1,1,1,1"}

SYSTEMS: dict[str, Row] = {
    "surgical_gpt": Row(f"{BASELINES}/surgical_gpt.py:tiny", GPT),
    "surgical_gpt_swin": Row(f"{BASELINES}/surgical_gpt.py:tiny", {**GPT, "model.gpt.vision": "swin_t"}, slow=True),
    "surgical_gpt_vit": Row(f"{BASELINES}/surgical_gpt.py:tiny", {**GPT, **VIT, "model.gpt.vision": "vit"}, slow=True),
    "landmark_cnn": Row(f"{BASELINES}/landmark_cnn.py:tiny", CNN, exported=True),
    "navigation_transformer": Row(f"{BASELINES}/navigation_seq2seq.py:tiny", SEQUENCE),
    "navigation_lstm": Row(f"{BASELINES}/navigation_seq2seq.py:lstm,tiny", SEQUENCE, slow=True),
    "navigation_encoder_decoder": Row(f"{BASELINES}/navigation_seq2seq.py:encoder_decoder,tiny", SEQUENCE, slow=True),
    "keyword_report": Row(f"{BASELINES}/keyword_report.py:tiny", SEQUENCE),
    "hmm": Row(f"{BASELINES}/hmm.py:tiny", {"model.hmm.states": "4", "eval.beam": "2"}, exported=True),
    "endovit": Row(f"{BASELINES}/endovit.py:tiny", {**VIT, **CODER}, slow=True),
}

SHORT = {
    "data.group_by": "procedure",
    "data.image_size": "32",
    "data.vocab_size": "512",
    "data.prompt_length": "64",
    "data.target_length": "12",
    "train.batch_size": "4",
    "train.steps": "2",
    "train.tensorboard": "false",
    "optim.ema": "0",
    "checkpoint.every": "2",
    "eval.every": "0",
    "eval.batch_size": "4",
    "eval.max_units": "4",
    "eval.bootstrap": "0",
}


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    path = tmp_path_factory.mktemp("frame") / "frame.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return path


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, words


def answer(checkpoint: Path, frame: Path, out: Path) -> dict:
    words = [f"--{name}={text}" for name, text in QUESTIONS.items()]
    # The evaluation's batch size: its compilation serves again.
    run("predict", "--checkpoint", checkpoint, frame, *words, "--batch_size", SHORT["eval.batch_size"], "--out", out)
    [line] = out.read_text().splitlines()
    return json.loads(line)


def train_evaluate_predict(row: Row, procedures: dict[str, str], frame: Path, folder: Path) -> dict:
    """A short run in folder/run, scored there; its answer to the frame."""
    settings = {**SHORT, **procedures, **row.overrides}
    config, work = load_config(row.spec, settings), folder / "run"
    run("train", "--config", row.spec, "--workdir", work, *(f"--config.{k}={v}" for k, v in settings.items()))
    run("evaluate", "--workdir", work, "--split", "test", "--contexts", "gold")
    metrics = json.loads((work / "eval" / "test" / "metrics.json").read_text())
    for task in config.tasks:
        assert metrics[f"fess/{task}/{'exact' if task in TEXT_TASKS else 'f1_macro_at_0.5'}"]["n_units"] > 1

    prediction = answer(work, frame, folder / "run.jsonl")
    assert prediction["input"] == str(frame)
    assert {task for task in ("landmarks", *TEXT_TASKS) if prediction[task] is not None} == set(config.tasks)
    for task in set(config.tasks) & set(TEXT_TASKS):
        said = prediction[task]
        assert isinstance(said["text"], str) and said["score"] <= 0 and said["context"] == "gold"
        assert bool(said["evidence"]) == (config.system not in TEXT_ONLY)
    for landmark in prediction["landmarks"] or ():
        assert 0 <= landmark["score"] <= 1
    return prediction


def export_and_again(prediction: dict, procedures: dict[str, str], frame: Path, tmp_path: Path) -> None:
    """The run's export in its place: the same scores, predictions and answer."""
    work, moved, exported = tmp_path / "run", tmp_path / "moved", tmp_path / "export"
    run("weights", "export", "--checkpoint", work, "--out", exported)
    run("weights", "verify", exported)
    work.rename(moved)  # an export stands alone
    there = tmp_path / "there"
    words = ("--data", procedures["data.path"], "--split", "test", "--contexts", "gold", "--out", there)
    run("evaluate", "--checkpoint", exported, *words)
    assert (there / "metrics.json").read_text() == (moved / "eval" / "test" / "metrics.json").read_text()
    assert (there / "predictions.jsonl").read_text() == (moved / "eval" / "test" / "predictions.jsonl").read_text()
    assert answer(exported, frame, tmp_path / "export.jsonl") == prediction


def _rows() -> list:
    """(row, whether its export, too): every export is in the slow tests, that of two rows in the default ones."""
    rows = []
    for name, row in SYSTEMS.items():
        if not (row.slow or row.exported):
            rows.append(pytest.param(row, False, id=f"{name}-run"))
        rows.append(pytest.param(row, True, id=name, marks=[pytest.mark.slow] * (row.slow or not row.exported)))
    return rows


@pytest.mark.parametrize(("row", "too"), _rows())
def test_a_baseline_through_every_command(row, too, procedures, frame, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "minilm", lambda: None)  # 22 M parameters, for nothing here
    prediction = train_evaluate_predict(row, procedures, frame, tmp_path)
    if too:
        export_and_again(prediction, procedures, frame, tmp_path)
