"""Masked language model on report texts: `configs/pretrain/mlm.py[:PRESET]`.

Presets: base (the default), light, tiny, micro. It reads the sentences of reports, each with the one before it, and the
descriptions of activities; images are not looked at. The result starts another model's text encoder:
`--config.model.text_encoder.init=WORKDIR`, where its words are found again by their spelling.

KNOWN: BERT's objective (Devlin et al. 2019): 15 % of the tokens, of these 80 % [MASK], 10 % any word, 10 % left as they
are; Adam 1e-4, b2 0.999, weight decay 0.01, linear warm-up. OURS: no next-sentence task, a cosine instead of a line
down, number of steps, and that the model is small and the text little.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from vlm_jax.config.presets import choose
from vlm_jax.config.schema import Config


def base() -> ConfigDict:
    """DistilBERT's encoder, as in configs/vlm.py:base.

    Command: vlm-jax train --config configs/pretrain/mlm.py --workdir runs/mlm --config.data.path=DIR
      --config.model.text_encoder.init=IMPORTED
    Expect: best from imported weights and their tokenizer (data.tokenizer); some hundred notes train no such encoder.
    Hardware and time: one GPU or TPU of 16 GB or more; not measured.
    """
    config = light()
    config.name = "mlm"
    config.model.text_encoder.update(width=768, layers=6, heads=12, mlp=3072, token_types=0)
    return config


def light() -> ConfigDict:
    """MiniLM-L12-H384's encoder, as in configs/vlm.py:light.

    Command: vlm-jax train --config configs/pretrain/mlm.py:light --workdir runs/mlm --config.data.path=DIR
    Expect: as base.
    Hardware and time: one GPU or TPU of 16 GB or more; not measured.
    """
    config = ConfigDict(dataclasses.asdict(Config(name="mlm_light", system="mlm", tasks=("mask_language",))))
    config.data.prompt_length = 128
    config.model.vocab_size = 30720
    config.model.dropout = 0.1
    config.augment.update(flip=0.0, drop_text=0.0)
    config.augment.update(rotate=0.0, scale=0.0, translate=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    config.optim.update(lr=1e-4, warmup_steps=500, weight_decay=0.01)
    config.train.update(steps=10_000, batch_size=256, log_every=50)
    config.checkpoint.every = 1000
    config.eval.update(every=1000, batch_size=256, max_units=2048)
    return config


def tiny() -> ConfigDict:
    """The text encoder of configs/vlm.py:tiny: two layers of width 128.

    Command: vlm-jax train --config configs/pretrain/mlm.py:tiny --workdir runs/mlm --config.data.path=DIR
    Expect: a loss that falls from about 7.6, the logarithm of the vocabulary; how far is not measured yet.
    Hardware and time: two CPU cores, minutes; not measured.
    """
    config = light()
    config.name = "mlm@tiny"
    config.data.update(image_size=64, vocab_size=2048, prompt_length=64)
    config.model.vocab_size = 0
    config.model.text_encoder.update(width=128, layers=2, heads=4, mlp=512, positions=128)
    config.optim.update(lr=1e-3, warmup_steps=40)
    config.train.update(steps=800, batch_size=32, log_every=10)
    config.checkpoint.every = 200
    config.eval.update(every=0, batch_size=32, max_units=256)
    return config


def micro() -> ConfigDict:
    """The text encoder of configs/vlm.py:micro: for tests and for trying out commands.

    Command: vlm-jax train --config configs/pretrain/mlm.py:micro --workdir runs/mlm --config.data.path=DIR
    Expect: nothing of its loss; every part runs.
    Hardware and time: one CPU core, 20 steps in seconds.
    """
    config = tiny()
    config.name = "mlm@micro"
    config.data.update(image_size=32, vocab_size=1024)
    config.model.text_encoder.update(width=32, layers=1, heads=2, mlp=64)
    config.optim.warmup_steps = 5
    config.train.update(steps=20, batch_size=8, log_every=1)
    config.checkpoint.every = 10
    config.eval.update(every=10, batch_size=8, max_units=16)
    return config


PRESETS = {"base": base, "light": light, "tiny": tiny, "micro": micro}


def get_config(arg: str = "") -> ConfigDict:
    """The settings of a preset; an empty argument means base.

    Raises:
      UserError: an unknown preset.
    """
    return choose(PRESETS, arg)
