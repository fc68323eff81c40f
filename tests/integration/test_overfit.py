"""Eight records, learned by heart through the ordinary commands' functions: every task, to the last word."""

from __future__ import annotations

import json

import pytest

from vlm_jax.config.load import load_config
from vlm_jax.data.run_data import RunData
from vlm_jax.data.store import write_dataset
from vlm_jax.decoding.system import System
from vlm_jax.evaluation import run as evaluation
from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.procedure import dataset_info, make_procedure, procedure_ids
from vlm_jax.training.loop import train

N_RECORDS = 8
STILL = {
    f"augment.{name}": "0"
    for name in ("rotate", "scale", "translate", "brightness", "contrast", "saturation", "hue", "drop_text")
}
SETTINGS = {
    **STILL,
    "data.group_by": "procedure",
    "train.batch_size": "8",
    "train.steps": "150",
    "train.log_every": "50",
    "train.tensorboard": "false",
    "optim.lr": "0.003",
    "optim.warmup_steps": "10",
    "data.target_length": "48",
    "optim.weight_decay": "0",
    "loss.label_smoothing": "0",
    "checkpoint.every": "150",
    "eval.every": "0",
    "model.image_encoder.width": "64",
    "model.text_encoder.width": "64",
    "model.decoder.mlp": "128",
}


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """A data set whose training split is eight frames, each in a sentence's window."""
    root = tmp_path_factory.mktemp("eight")
    simulator = SimulatorConfig(procedures=3, frames_per_procedure=12, image_size=32, activities_per_procedure=12)
    ids = procedure_ids(simulator)
    write_dataset(root / "data", dataset_info(simulator), ids, lambda i: make_procedure(simulator, i), progress=False)
    split = {"train": [ids[0]], "validation": [ids[1]], "test": [ids[2]]}
    (root / "split.json").write_text(json.dumps(split))
    return root


def test_eight_records_are_learned_by_heart(eight, tmp_path, monkeypatch):
    paths = {"data.path": str(eight / "data"), "data.split": f"list:{eight / 'split.json'}"}
    config = load_config("configs/vlm.py:micro", {**SETTINGS, **paths})
    whole = RunData.records

    def eight_of_them(self, split):
        view = whole(self, split)
        return view.view(view.rows[:N_RECORDS]) if split == "train" else view

    monkeypatch.setattr(RunData, "records", eight_of_them)
    monkeypatch.setattr(evaluation, "minilm", lambda: None)
    monkeypatch.setattr(evaluation, "report_html", lambda *_: "")  # plots of eight rows: seconds for nothing
    _keep_training_to(monkeypatch, N_RECORDS)
    assert train(config, str(tmp_path)) == 0
    system = System.from_checkpoint(tmp_path, "last")
    data = RunData.open(config, system.tokenizer, system.labels)
    metrics = evaluation.evaluate(system, data, "train", tmp_path / "eval", contexts=("gold",), progress=False)
    assert len(data.records("train")) == N_RECORDS
    assert metrics["fess/landmarks/f1_macro_at_0.5"]["value"] == 1.0
    for task in ("describe", "anticipate", "report"):
        assert metrics[f"fess/{task}/exact"]["n_units"] > 0
        assert metrics[f"fess/{task}/exact"]["value"] == 1.0, task


def _keep_training_to(monkeypatch, n: int) -> None:
    """The mixture draws from the first `n` training records alone."""
    from vlm_jax.data.mixture import Mixture

    plain = Mixture.__init__

    def first(self, rows, weights, seed, shares):
        assert all(share is None for share in shares)
        plain(self, [r[:n] for r in rows], weights, seed)

    monkeypatch.setattr(Mixture, "__init__", first)
