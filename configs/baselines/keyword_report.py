"""Keyword-augmented reports, text to text (Bieck et al. 2021): `configs/baselines/keyword_report.py:[PRESET]`.

Presets: full (the default), tiny.
KNOWN: keyword and previous sentence to the next sentence; a bidirectional two-layer LSTM encoder-decoder with
attention, cross-entropy, a tokenizer vocabulary of 500. OURS: width, rate, length of training, greedy decoding.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from vlm_jax.config.presets import choose
from vlm_jax.config.schema import Config

STILL = ("rotate", "scale", "translate", "brightness", "contrast", "saturation", "hue")


def full() -> ConfigDict:
    """Two bidirectional LSTM layers of width 256 and a decoder of as many: about 5 M parameters.

    Command: vlm-jax train --config configs/baselines/keyword_report.py --workdir runs/keyword --config.data.path=DIR
    Expect: fluent sentences with guessed findings, for nothing is seen; the published ROUGE is 0.71 on other data.
    Hardware and time: any GPU, or two CPU cores at about 0.3 s a step of 64 sentences; not measured further.
    """
    config = ConfigDict(dataclasses.asdict(Config(name="keyword_report", system="keyword_report")))
    config.tasks = ("report",)
    config.data.update(image_size=16, target_length=64, vocab_size=500)  # no image is read; words come in pieces
    config.augment.update(dict.fromkeys(STILL, 0.0), flip=0.5, drop_text=0.1)
    config.model.seq2seq.update(kind="lstm", width=256, layers=2, bidirectional=True)
    config.model.dropout = 0.1
    config.loss.label_smoothing = 0.0
    config.optim.update(lr=1e-3, warmup_steps=100, weight_decay=0.0)
    config.train.update(steps=6000, batch_size=64, log_every=50)
    config.checkpoint.every = 1000
    config.eval.update(every=1000, batch_size=64)
    return config


def tiny() -> ConfigDict:
    """Width 128 for the simulator's small set; named keyword_report@tiny.

    Command: vlm-jax train --config configs/baselines/keyword_report.py:tiny --workdir runs/keyword_tiny
      --config.data.path=DIR
    Expect: the simulator's sentences for each keyword, with guessed findings.
    Hardware and time: two CPU cores, 2 to 3 minutes.
    """
    config = full()
    config.name = "keyword_report@tiny"
    config.data.prompt_length = 64
    config.model.seq2seq.width = 128
    config.optim.update(lr=5e-3, warmup_steps=60, ema=0.99)  # of 2e-3 and 5e-3, the lower validation loss
    config.train.update(steps=1000, batch_size=32, log_every=10)
    config.checkpoint.every = 250
    config.eval.update(every=0, batch_size=32)
    return config


PRESETS = {"full": full, "tiny": tiny}


def get_config(arg: str = "") -> ConfigDict:
    """The settings of a preset; nothing means full.

    Raises:
      UserError: an unknown preset.
    """
    return choose(PRESETS, arg)
