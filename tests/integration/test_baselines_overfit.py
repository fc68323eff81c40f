"""Every system learns eight activities by heart, through the ordinary training and evaluation.

A system is one row of `SYSTEMS`: the configuration it is trained with, and what is set on top of it. Rows that take
more than a few seconds of one core are slow.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from vlm_jax.config.load import load_config
from vlm_jax.contract import TEXT_TASKS
from vlm_jax.data import run_data
from vlm_jax.data.records import SourceRecords
from vlm_jax.data.run_data import RunData
from vlm_jax.data.split_rules import SPLITS
from vlm_jax.decoding.system import System
from vlm_jax.evaluation import run as evaluation
from vlm_jax.training.loop import train

N_ACTIVITIES = 8


@dataclass(frozen=True)
class Row:
    """`spec` as `--config` takes it; `overrides` go on top of `LEARN_BY_HEART`."""

    spec: str
    overrides: dict[str, str] = field(default_factory=dict)
    slow: bool = False


NARROW = {"model.seq2seq.width": "64", "model.seq2seq.layers": "1", "model.seq2seq.mlp": "128", "eval.decode": "greedy"}
RECURRENT = {**NARROW, "optim.lr": "0.01", "train.steps": "200"}
# With half of these steps the LSTM was done on two threads and had one of eight wrong on one: roundings differ.
LONGER = {**NARROW, "model.seq2seq.width": "96", "optim.lr": "0.005", "train.steps": "1000"}
NAVIGATION = "configs/baselines/navigation_seq2seq.py"

GPT = {
    "model.image_encoder.patch": "8",
    "model.gpt.positions": "256",
    "model.gpt.head_dropout": "0",
    "model.backbone.width_factor": "0.125",
    "train.steps": "200",
}

ENDOVIT = {
    "model.image_encoder.width": "64",
    "model.image_encoder.patch": "16",
    "model.image_encoder.layers": "1",
    "model.image_encoder.mlp": "128",
    "model.image_encoder.drop_path": "0",
    "model.text_encoder.width": "64",
    "model.text_encoder.layers": "1",
    "model.text_encoder.mlp": "128",
    "model.decoder.layers": "1",
    "model.decoder.mlp": "128",
    "optim.layer_decay": "1",
    "train.steps": "150",
}

SYSTEMS: dict[str, Row] = {
    "navigation_transformer": Row(f"{NAVIGATION}:tiny", {**NARROW, "train.steps": "250"}, slow=True),
    "navigation_lstm": Row(f"{NAVIGATION}:lstm,tiny", LONGER, slow=True),
    "navigation_encoder_decoder": Row(f"{NAVIGATION}:encoder_decoder,tiny", LONGER, slow=True),
    "keyword_report": Row("configs/baselines/keyword_report.py:tiny", RECURRENT),
    "surgical_gpt": Row("configs/baselines/surgical_gpt.py:tiny", GPT, slow=True),
    "endovit": Row("configs/baselines/endovit.py:tiny", ENDOVIT, slow=True),
    "hmm": Row("configs/baselines/hmm.py:tiny"),
    "landmark_cnn": Row(
        "configs/baselines/landmark_cnn.py:tiny",
        {"model.backbone.width_factor": "0.125", "model.backbone.depths": "1,1,1,1", "train.steps": "80"},
        slow=True,
    ),
}

LEARN_BY_HEART = {
    **{
        f"augment.{name}": "0"
        for name in (
            *("flip", "rotate", "scale", "translate", "brightness", "contrast", "saturation", "hue"),
            *("drop_text", "drop_image"),
        )
    },
    "data.group_by": "procedure",
    "data.image_size": "32",
    "data.vocab_size": "1024",
    "data.prompt_length": "64",
    "data.target_length": "48",
    "train.batch_size": "8",
    "train.steps": "100",
    "train.log_every": "50",
    "train.tensorboard": "false",
    "optim.lr": "0.003",
    "optim.warmup_steps": "10",
    "optim.weight_decay": "0",
    "optim.ema": "0",
    "loss.label_smoothing": "0",
    "model.dropout": "0",
    "checkpoint.every": "1000",
    "eval.every": "0",
    "eval.batch_size": "8",
    "eval.max_units": "8",
    "eval.bootstrap": "0",
}


def different_activities(part: SourceRecords, rows: np.ndarray) -> list[int]:
    """The first rows of eight activities that no text of their prompts confounds: text alone can tell them apart."""
    seen: tuple[set, ...] = (set(), set(), set(), set())
    chosen = []
    for row in rows.tolist():
        record = part.record(row, "", image=False)
        keys = (record.activity, record.previous, record.description, (record.keyword, record.context))
        if record.sentence and all(key not in before for key, before in zip(keys, seen, strict=True)):
            chosen.append(row)
            for key, before in zip(keys, seen, strict=True):
                before.add(key)
    return chosen[:N_ACTIVITIES]


@pytest.fixture
def eight(procedures, monkeypatch):
    """The same procedures with a training split of eight records, each of another activity."""
    whole = run_data.split_sources

    def few(parts, config, absent=()):
        splits = whole(parts, config, absent)
        code = SPLITS.index("train")
        for part, split in zip(parts, splits, strict=True):
            rows = np.flatnonzero(split.codes == code)
            split.codes[rows] = -1
            split.codes[different_activities(part, rows)] = code
        return splits

    monkeypatch.setattr(run_data, "split_sources", few)
    monkeypatch.setattr(evaluation, "minilm", lambda: None)
    monkeypatch.setattr(evaluation, "report_html", lambda *_: "")  # plots of eight rows: seconds for nothing
    return procedures


@pytest.mark.parametrize(
    "row", [pytest.param(r, id=name, marks=[pytest.mark.slow] * r.slow) for name, r in SYSTEMS.items()]
)
def test_eight_activities_are_learned_by_heart(row, eight, tmp_path):
    config = load_config(row.spec, {**LEARN_BY_HEART, **eight, **row.overrides})
    assert train(config, str(tmp_path)) == 0
    system = System.from_checkpoint(tmp_path, "last")
    data = RunData.open(config, system.tokenizer, system.labels)
    assert len(data.records("train")) == N_ACTIVITIES
    metrics = evaluation.evaluate(system, data, "train", tmp_path / "eval", contexts=("gold",), progress=False)
    for task in config.tasks:
        name = "exact" if task in TEXT_TASKS else "f1_macro_at_0.5"
        score = metrics[f"fess/{task}/{name}"]
        assert score["n_units"] == N_ACTIVITIES, (task, score)
        assert score["value"] == 1.0, (task, score)
