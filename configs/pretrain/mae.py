"""Masked autoencoder on frames without labels: `configs/pretrain/mae.py[:PRESET]`.

Presets: base (the default), small, endovit, tiny, micro. The result starts another model's image encoder:
`--config.model.image_encoder.init=WORKDIR`; widths, depth and patch must be the same there, the image size need not be.

KNOWN: MAE's recipe (He et al. 2022, table 8): AdamW with b2 0.95, learning rate 1.5e-4 for 256 images and in proportion
for other batches, weight decay 0.05, warm-up and cosine to 0, 75 % hidden, pixels normalised by patch, crop of 20 to
100 % of the area and flip; no clipping, no dropout. OURS: number of steps, the crop is taken of the resized image and
is bilinear, and what `tiny` and `micro` are. An override of train.batch_size does not change optim.lr: give both.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from vlm_jax.config.presets import choose
from vlm_jax.config.schema import Config

BASE_LR = 1.5e-4  # for 256 images


def _batch(config: ConfigDict, size: int) -> None:
    config.train.batch_size = config.eval.batch_size = size
    config.optim.lr = BASE_LR * size / 256


def base() -> ConfigDict:
    """ViT-B/16, the encoder of configs/vlm.py:base: 111.7 M parameters, 85.8 M of them in the encoder that is kept.

    Command: vlm-jax train --config configs/pretrain/mae.py --workdir runs/mae --config.data.path=DIR
    Expect: a loss (mean squared error of normalised pixels) that falls from 1 for as long as it is trained.
    Hardware and time: one GPU or TPU of 40 GB or more, or several (parallel.data); not measured. Too slow on a CPU.
    """
    config = ConfigDict(dataclasses.asdict(Config(name="mae", system="mae", tasks=("reconstruct",))))
    config.model.image_encoder.update(width=768, layers=12, heads=12, mlp=3072)
    config.augment.update(flip=0.5, crop=0.2, rotate=0.0, scale=0.0, translate=0.0)
    config.augment.update(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, drop_text=0.0)
    config.optim.update(b2=0.95, weight_decay=0.05, end_lr_factor=0.0, warmup_steps=2000, clip_norm=0.0)
    _batch(config, 256)
    config.train.update(steps=40_000, log_every=50)
    config.checkpoint.every = 2000
    config.eval.update(every=2000, max_units=2048)
    return config


def small() -> ConfigDict:
    """ViT-S/16, the encoder of configs/vlm.py:light, with a decoder of half the width.

    Command: vlm-jax train --config configs/pretrain/mae.py:small --workdir runs/mae --config.data.path=DIR
    Expect: as base.
    Hardware and time: one GPU or TPU of 16 GB or more; not measured.
    """
    config = base()
    config.name = "mae_small"
    config.model.image_encoder.update(width=384, layers=12, heads=6, mlp=1536)
    config.model.mae.update(decoder_width=256, decoder_heads=8, decoder_mlp=1024)
    return config


def endovit() -> ConfigDict:
    """base by EndoViT's published settings. It starts from MAE's ImageNet weights (model.image_encoder.init=DIR).

    KNOWN (pretraining_config.yml of its code): batch 256, 15 epochs with one of warm-up, learning rate 1.5e-3, weight
    decay 0.05, layer-wise decay 0.75, 75 % hidden, squared error of pixels that are not normalised by patch, weights
    averaged from epoch 10. OURS: 15 epochs of its 743,724 images in steps, a moving average in place of that one, the
    decoder from random weights.

    Command: vlm-jax train --config configs/pretrain/mae.py:endovit --workdir runs/mae --config.data.path=DIR
      --config.model.image_encoder.init=IMPORTED
    Expect: an encoder of EndoViT's kind, not EndoViT.
    Hardware and time: as base.
    """
    config = base()
    config.name = "endovit_pretraining"
    config.model.mae.normalise_pixels = False
    config.optim.update(lr=1.5e-3, layer_decay=0.75, warmup_steps=2905, ema=0.999)
    config.train.steps = 43_578
    return config


def tiny() -> ConfigDict:
    """The encoder of configs/vlm.py:tiny_vit (64 pixels, patch 8) and two decoder layers of width 64.

    Command: vlm-jax train --config configs/pretrain/mae.py:tiny --workdir runs/mae --config.data.path=DIR
    Expect: the loss falls from about 1.2; what the encoder is good for is in docs/results/pretraining.md.
    Hardware and time: two CPU cores; not measured at its 32 images a step.
    """
    config = base()
    config.name = "mae@tiny"
    config.data.image_size = 64
    config.model.image_encoder.update(width=128, layers=4, heads=4, mlp=512, patch=8)
    config.model.mae.update(decoder_width=64, decoder_layers=2, decoder_heads=4, decoder_mlp=256)
    _batch(config, 32)
    # OURS: the recipe's rate is for 256 images, a hundred times as many steps and a wider model.
    config.optim.update(lr=1e-3, warmup_steps=40)
    config.train.update(steps=800, log_every=10)
    config.checkpoint.every = 200
    config.eval.update(every=0, max_units=256)
    return config


def micro() -> ConfigDict:
    """The encoder of configs/vlm.py:micro: for tests and for trying out commands.

    Command: vlm-jax train --config configs/pretrain/mae.py:micro --workdir runs/mae --config.data.path=DIR
    Expect: nothing of its loss; every part runs.
    Hardware and time: one CPU core, 20 steps in seconds.
    """
    config = tiny()
    config.name = "mae@micro"
    config.data.image_size = 32
    config.model.image_encoder.update(width=32, layers=1, heads=2, mlp=64)
    config.model.mae.update(decoder_width=16, decoder_layers=1, decoder_heads=2, decoder_mlp=32)
    config.optim.warmup_steps = 5
    config.train.update(steps=20, batch_size=8, log_every=1)
    config.checkpoint.every = 10
    config.eval.update(every=10, batch_size=8, max_units=16)
    return config


PRESETS = {"base": base, "small": small, "endovit": endovit, "tiny": tiny, "micro": micro}


def get_config(arg: str = "") -> ConfigDict:
    """The settings of a preset; an empty argument means base.

    Raises:
      UserError: an unknown preset.
    """
    return choose(PRESETS, arg)
