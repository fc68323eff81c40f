"""EndoViT's encoder and fine-tuning recipe under our heads: `configs/baselines/endovit.py:[PRESET][,init=DIR]`.

Presets: endovit_arch (the default; random start), tiny. With `init=DIR`, the weights that `vlm-jax weights import
--layout endovit` made, it is named endovit: without them no sentence may compare the original.
KNOWN: encoder, normalisation and the recipe of multi-label fine-tuning (doi 10.1007/s11548-024-03091-5). OURS: text
encoder and decoder for the text tasks, where the original has none (docs/decisions/endovit-heads.md).
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from vlm_jax.config.schema import Config
from vlm_jax.config.values import suggest
from vlm_jax.errors import UserError


def endovit_arch() -> ConfigDict:
    """ViT-B/16 at 224 pixels, landmarks from its mean patch token: 171.4 M parameters with the text side.

    Command: vlm-jax train --config configs/baselines/endovit.py --workdir runs/endovit_arch --config.data.path=DIR
    From EndoViT's weights: vlm-jax weights import --layout endovit --input FILE --out DIR2, and then
      vlm-jax train --config configs/baselines/endovit.py:init=DIR2 --workdir runs/endovit --config.data.path=DIR
    Expect: from a random start far behind the same run from the published weights.
    Hardware and time: one GPU or TPU of 24 GB or more; its time is not measured yet. Too slow on a CPU.
    """
    config = ConfigDict(dataclasses.asdict(Config(name="endovit_arch")))
    config.data.target_length = 40
    config.model.update(fusion="separate", head_bias=-2.0, vocab_size=30720)
    config.model.image_encoder.update(width=768, heads=12, mlp=3072, drop_path=0.1)
    config.model.text_encoder.update(width=768, layers=6, heads=12, mlp=3072, token_types=0)
    config.model.decoder.update(heads=12, mlp=3072)
    config.loss.update(landmarks="focal", focal_gamma=3.0)
    config.optim.update(lr=1e-3, weight_decay=0.05, layer_decay=0.65, warmup_steps=500)
    config.train.update(steps=20_000, batch_size=64, log_every=50)
    config.checkpoint.every = 1000
    config.eval.update(every=1000, batch_size=64)
    return config


def tiny() -> ConfigDict:
    """Four layers of width 128 at 64 pixels, the same recipe: about 2 M parameters; named endovit_arch@tiny.

    Command: vlm-jax train --config configs/baselines/endovit.py:tiny --workdir runs/endovit_tiny
      --config.data.path=DIR
    Expect: the simulator's common landmarks and its language; says nothing about the full size.
    Hardware and time: two CPU cores, about 0.25 s a step of 16 images, 600 steps in about 3 minutes.
    """
    config = endovit_arch()
    config.name = "endovit_arch@tiny"
    config.data.update(image_size=64, vocab_size=2048, prompt_length=48)
    config.model.update(vocab_size=0, fusion_heads=4)
    config.model.image_encoder.update(width=128, layers=4, heads=4, mlp=512, patch=8)
    config.model.text_encoder.update(width=128, layers=2, heads=4, mlp=512, positions=128, token_types=2)
    config.model.decoder.update(heads=4, mlp=512, positions=64)
    config.augment.update(drop_text=0.5, flip=0.5)
    config.optim.warmup_steps = 30
    config.train.update(steps=600, batch_size=16, log_every=10)
    config.checkpoint.every = 200
    config.eval.update(every=0, batch_size=32)
    return config


PRESETS = {"endovit_arch": endovit_arch, "tiny": tiny}


def get_config(arg: str = "") -> ConfigDict:
    """The settings of `[PRESET][,init=DIR]`.

    Raises:
      UserError: an unknown preset or argument.
    """
    preset, init = "endovit_arch", ""
    for part in filter(None, (part.strip() for part in arg.split(","))):
        if part.startswith("init="):
            init = part.removeprefix("init=")
        elif part in PRESETS:
            preset = part
        else:
            known = (*PRESETS, "init=DIR")
            raise UserError(f"unknown preset {part!r}{suggest(part, known)}: choose from {', '.join(known)}")
    config = PRESETS[preset]()
    if init:
        config.model.image_encoder.init = init
        config.name = config.name.replace("endovit_arch", "endovit")
    return config
