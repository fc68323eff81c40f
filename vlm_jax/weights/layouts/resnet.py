"""ResNet of version 1.5 under torchvision's names (timm's are the same) and Hugging Face's."""

from __future__ import annotations

import re
from typing import Any

from vlm_jax.models.backbones.resnet import DEPTHS, STEM
from vlm_jax.weights.layouts.backbone import BATCHES, IMAGENET, PART, batch_norm, conv, layouts, stage_depths
from vlm_jax.weights.rules import Arrays, Rule

_STAGES = range(4)
_OTHERS = {"resnet18": ((3, 4, 6, 3),), "resnet50": ((3, 4, 23, 3), (3, 8, 36, 3))}  # ResNet-34; 101 and 152


def _torchvision_rules() -> tuple[Rule, ...]:
    rules = [conv("conv1", f"{PART}/conv_stem"), *batch_norm("bn1", f"{PART}/norm_stem")]
    for stage in _STAGES:
        source, target = rf"layer{stage + 1}\.(\d+)", f"{PART}/stage_{stage}_block_{{0}}"
        for i in (1, 2, 3):
            rules += [conv(rf"{source}\.conv{i}", f"{target}/conv_{i}")]
            rules += batch_norm(rf"{source}\.bn{i}", f"{target}/norm_{i}")
        rules += [conv(rf"{source}\.downsample\.0", f"{target}/conv_skip")]
        rules += batch_norm(rf"{source}\.downsample\.1", f"{target}/norm_skip")
    return tuple(rules)


def _hugging_face_rules() -> tuple[Rule, ...]:
    stem = r"embedder\.embedder"
    rules = [conv(stem + r"\.convolution", f"{PART}/conv_stem")]
    rules += batch_norm(stem + r"\.normalization", f"{PART}/norm_stem")
    for stage in _STAGES:
        source, target = rf"encoder\.stages\.{stage}\.layers\.(\d+)", f"{PART}/stage_{stage}_block_{{0}}"
        for i in (1, 2, 3):
            rules += [conv(rf"{source}\.layer\.{i - 1}\.convolution", f"{target}/conv_{i}")]
            rules += batch_norm(rf"{source}\.layer\.{i - 1}\.normalization", f"{target}/norm_{i}")
        rules += [conv(rf"{source}\.shortcut\.convolution", f"{target}/conv_skip")]
        rules += batch_norm(rf"{source}\.shortcut\.normalization", f"{target}/norm_skip")
    return tuple(rules)


def _configure(arrays: Arrays, stem: str, block: str, third: str) -> dict[str, Any]:
    """Kind, width and depths from the keys: `block` finds (stage, block), `third` is the key of a bottleneck only."""
    found = [(int(m[1]), int(m[2])) for key in arrays if (m := re.match(block, key))]
    first = min((stage for stage, _ in found), default=0)  # torchvision counts stages from 1
    name = "resnet50" if third in arrays else "resnet18"
    mean, std = IMAGENET
    factor = arrays[stem].shape[0] / STEM
    depths = stage_depths([(stage - first, i) for stage, i in found], DEPTHS[name], *_OTHERS[name])
    return {"name": name, "width_factor": factor, "depths": depths, "mean": mean, "std": std}


def _torchvision(arrays: Arrays) -> dict[str, Any]:
    return _configure(arrays, "conv1.weight", r"layer(\d)\.(\d+)\.", "layer1.0.conv3.weight")


def _hugging_face(arrays: Arrays) -> dict[str, Any]:
    block = r"encoder\.stages\.(\d)\.layers\.(\d+)\."
    third = "encoder.stages.0.layers.0.layer.2.convolution.weight"
    return _configure(arrays, "embedder.embedder.convolution.weight", block, third)


LAYOUTS = (
    *layouts(
        "torchvision_resnet",
        "torchvision's and timm's ResNet-18, 34, 50, ...",
        _torchvision_rules(),
        (BATCHES,),
        "fc",
        _torchvision,
    ),
    *layouts(
        "hf_resnet",
        "Hugging Face ResNet-18, 34, 50, ... (not downsample_in_bottleneck)",
        _hugging_face_rules(),
        (BATCHES,),
        r"classifier\.1",
        _hugging_face,
        prefix=r"(?:resnet\.)?",
    ),
)
