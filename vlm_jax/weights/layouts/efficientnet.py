"""EfficientNet-Lite0 under the names of lukemelas' EfficientNet-PyTorch and its Lite variant."""

from __future__ import annotations

import re
from typing import Any

from vlm_jax.config.presets import LITE
from vlm_jax.models.backbones.efficientnet import STAGES, scaled
from vlm_jax.weights.layouts.backbone import BATCHES, PART, batch_norm, conv, layouts
from vlm_jax.weights.rules import Arrays, Rule

_BLOCK = r"_blocks\.(\d+)"
_TARGET = f"{PART}/block_{{0}}"

_RULES: tuple[Rule, ...] = (
    conv("_conv_stem", f"{PART}/conv_stem"),
    *batch_norm("_bn0", f"{PART}/norm_stem"),
    conv(_BLOCK + r"\._expand_conv", f"{_TARGET}/conv_expand"),
    *batch_norm(_BLOCK + r"\._bn0", f"{_TARGET}/norm_expand"),
    conv(_BLOCK + r"\._depthwise_conv", f"{_TARGET}/conv_depthwise"),
    *batch_norm(_BLOCK + r"\._bn1", f"{_TARGET}/norm_depthwise"),
    conv(_BLOCK + r"\._project_conv", f"{_TARGET}/conv_project"),
    *batch_norm(_BLOCK + r"\._bn2", f"{_TARGET}/norm_project"),
    conv("_conv_head", f"{PART}/conv_head"),
    *batch_norm("_bn1", f"{PART}/norm_head"),
)


def _configure(arrays: Arrays) -> dict[str, Any]:
    """Only Lite0's depths; the width of the first stage says the factor."""
    numbers = {int(m[1]) for key in arrays if (m := re.match(_BLOCK + r"\.", key))}
    blocks, expected = 1 + max(numbers, default=-1), sum(stage[0] for stage in STAGES)
    if blocks != expected:
        raise KeyError(f"{expected} blocks (it has {blocks})")
    if any("_se_reduce" in key for key in arrays):
        raise KeyError("a network without squeeze-and-excitation: this is EfficientNet, not Lite")
    last, wide = STAGES[-1][-1], int(arrays[f"_blocks.{blocks - 1}._project_conv.weight"].shape[0])
    factor = wide / last
    if scaled(last, factor) != wide:
        raise KeyError(f"a last block of a multiple of 8 channels (it has {wide})")
    return {"name": "efficientnet_lite0", "width_factor": factor, "depths": (), **LITE}


LAYOUTS = layouts(
    "efficientnet_lite0", "EfficientNet-Lite0 of EfficientNet-Lite-PyTorch", _RULES, (BATCHES,), "_fc", _configure
)
