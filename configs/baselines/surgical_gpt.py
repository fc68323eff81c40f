"""SurgicalGPT's LV-GPT for our tasks: `configs/baselines/surgical_gpt.py:[PRESET][,positions=none|zero|ordered]`.

Presets: resnet18 (the default), swin_t, vit: what makes the vision tokens; tiny.
KNOWN: GPT-2 small over [words ; vision tokens], the vision tokenisers, their positions, the head, Adam at 1e-5, batch
64. OURS: the sigmoid head for landmarks and the tied language-model head. Its published weights are not to be had:
hence surgical_gpt_arch, which says nothing of the original.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from vlm_jax.config.presets import choose
from vlm_jax.config.schema import Config
from vlm_jax.errors import UserError

POSITIONS = ("none", "zero", "ordered")
HALF = (0.5, 0.5, 0.5)  # ViT's normalisation


def resnet18() -> ConfigDict:
    """ResNet-18's last map as vision tokens: about 136 M parameters and twice the word embedding.

    Command: vlm-jax train --config configs/baselines/surgical_gpt.py:resnet18 --workdir runs/surgical_gpt
      --config.data.path=DIR
    From GPT-2's weights: vlm-jax weights import --layout gpt2 --input FILE --out DIR2, and then
      --config.model.gpt.init=DIR2; the vision tokeniser's by model.backbone.init or model.image_encoder.init.
    Expect: from scratch it needs far more text than there is; the learning rate is the published one for fine-tuning.
    Hardware and time: one GPU or TPU of 24 GB or more, whose time is not measured yet. Too slow on a CPU.
    """
    config = ConfigDict(dataclasses.asdict(Config(name="surgical_gpt_arch", system="surgical_gpt")))
    config.data.target_length = 40
    config.model.dropout = 0.1
    config.model.gpt.vision = "resnet18"
    config.optim.update(lr=1e-5, weight_decay=0.0, clip_norm=0.0, warmup_steps=0)
    config.train.update(steps=20_000, batch_size=64, log_every=50)
    config.checkpoint.every = 1000
    config.eval.update(every=1000, batch_size=64)
    return config


def swin_t() -> ConfigDict:
    """Swin-T's 49 tokens.

    Command: vlm-jax train --config configs/baselines/surgical_gpt.py:swin_t --workdir runs/surgical_gpt_swin
      --config.data.path=DIR
    Expect: as resnet18, with 28 M parameters for the vision tokeniser.
    Hardware and time: one GPU or TPU of 24 GB or more, whose time is not measured yet. Too slow on a CPU.
    """
    config = resnet18()
    config.name = "surgical_gpt_arch-swin_t"
    config.model.gpt.vision = "swin_t"
    return config


def vit() -> ConfigDict:
    """ViT-B/16's 197 tokens.

    Command: vlm-jax train --config configs/baselines/surgical_gpt.py:vit --workdir runs/surgical_gpt_vit
      --config.data.path=DIR
    Expect: as resnet18, with 86 M parameters for the vision tokeniser.
    Hardware and time: one GPU or TPU of 40 GB or more, whose time is not measured yet. Too slow on a CPU.
    """
    config = resnet18()
    config.name = "surgical_gpt_arch-vit"
    config.model.gpt.vision = "vit"
    config.model.image_encoder.update(width=768, heads=12, mlp=3072, epsilon=1e-12, mean=HALF, std=HALF)
    return config


def tiny() -> ConfigDict:
    """Two layers of width 128 and a quarter of ResNet-18 at 64 pixels; named surgical_gpt_arch@tiny.

    Command: vlm-jax train --config configs/baselines/surgical_gpt.py:tiny --workdir runs/surgical_gpt_tiny
      --config.data.path=DIR
    Expect: learns the simulator's language and common landmarks; says nothing about the published model.
    Hardware and time: two CPU cores, minutes; not measured yet.
    """
    config = resnet18()
    config.name = "surgical_gpt_arch@tiny"
    config.data.update(image_size=64, vocab_size=2048, prompt_length=48)
    config.model.gpt.update(width=128, layers=2, heads=4, positions=128, head_width=64)
    config.model.backbone.width_factor = 0.25
    config.model.dropout = 0.0
    config.augment.update(drop_text=0.5, flip=0.5)
    config.optim.update(lr=1e-3, weight_decay=0.05, clip_norm=1.0, warmup_steps=30, ema=0.99)
    config.train.update(steps=800, batch_size=16, log_every=10)
    config.checkpoint.every = 200
    config.eval.update(every=0, batch_size=32)
    return config


PRESETS = {"resnet18": resnet18, "swin_t": swin_t, "vit": vit, "tiny": tiny}


def get_config(arg: str = "") -> ConfigDict:
    """The settings of `[PRESET][,positions=MODE]`; an empty argument means resnet18.

    Raises:
      UserError: an unknown preset or mode.
    """
    preset, *options = [part.strip() for part in arg.split(",")]
    config = choose(PRESETS, preset)
    for option in options:
        key, _, mode = option.partition("=")
        if key != "positions" or mode not in POSITIONS:
            raise UserError(f"unknown option {option!r}: expected positions=MODE, MODE one of {', '.join(POSITIONS)}")
        config.model.gpt.vision_positions = mode
        config.name = f"{config.name}-{option}"
    return config
