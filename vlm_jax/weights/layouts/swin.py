"""Swin-T under the names of its authors (Microsoft), of timm, and of Hugging Face."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vlm_jax.models.backbones.swin import DEPTHS, HEADS, PATCH, WIDTH
from vlm_jax.weights.layouts import transforms as t
from vlm_jax.weights.layouts.backbone import IMAGENET, PART, layouts, stage_depths
from vlm_jax.weights.rules import Arrays, Rule, Transform

_QKV = ("query", "key", "value")
_SMALL = (2, 2, 18, 2)  # Swin-S
_BUFFERS = (r".*(?:relative_position_index|attn_mask)", "computed from the window's size")


def _at(stage: int, transform: Transform) -> Transform:
    """A transform that reads `width`, `heads` and `patch` at one stage."""

    def apply(array: np.ndarray, config: Mapping[str, Any]) -> np.ndarray | tuple[np.ndarray, ...]:
        width = round(WIDTH * config["width_factor"]) * 2**stage
        return transform(array, {"width": width, "heads": HEADS[stage], "patch": PATCH})

    return apply


def _norm(source: str, target: str) -> list[Rule]:
    return [Rule(source + r"\.weight", target + "/scale"), Rule(source + r"\.bias", target + "/bias")]


def _linear(source: str, target: str) -> list[Rule]:
    return [Rule(source + r"\.weight", target + "/kernel", t.linear), Rule(source + r"\.bias", target + "/bias")]


def _embedding(projection: str, norm: str) -> list[Rule]:
    target = f"{PART}/patch_embedding"
    return [
        Rule(projection + r"\.weight", target + "/kernel", _at(0, t.patch_kernel)),
        Rule(projection + r"\.bias", target + "/bias"),
        *_norm(norm, f"{PART}/embedding_norm"),
    ]


def _out(source: str, target: str, stage: int) -> list[Rule]:
    kernel = Rule(source + r"\.weight", target + "/out/kernel", _at(stage, t.out_kernel))
    return [kernel, Rule(source + r"\.bias", target + "/out/bias")]


def _merging(source: str, stage: int) -> list[Rule]:
    target = f"{PART}/merge_{stage}"
    reduction = Rule(source + r"\.reduction\.weight", target + "/reduction/kernel", t.linear)
    return [reduction, *_norm(source + r"\.norm", target + "/norm")]


def _original_rules(merging_stage: int) -> tuple[Rule, ...]:
    """`merging_stage`: where the first merging stands: at the end of stage 0 (authors) or the start of 1 (timm)."""
    rules = _embedding(r"patch_embed\.proj", r"patch_embed\.norm")
    for stage in range(4):
        source, target = rf"layers\.{stage}\.blocks\.(\d+)", f"{PART}/stage_{stage}_block_{{0}}"
        attention, ours = source + r"\.attn", target + "/attention"
        kernels, biases = (tuple(f"{ours}/{n}/{leaf}" for n in _QKV) for leaf in ("kernel", "bias"))
        rules += [
            *_norm(source + r"\.norm1", target + "/norm_1"),
            *_norm(source + r"\.norm2", target + "/norm_2"),
            Rule(attention + r"\.qkv\.weight", kernels, _at(stage, t.fused_kernels)),
            Rule(attention + r"\.qkv\.bias", biases, _at(stage, t.fused_biases)),
            *_out(attention + r"\.proj", ours, stage),
            Rule(attention + r"\.relative_position_bias_table", ours + "/relative_position_bias"),
            *_linear(source + r"\.mlp\.fc1", target + "/mlp/up"),
            *_linear(source + r"\.mlp\.fc2", target + "/mlp/down"),
        ]
        if stage < 3:
            rules += _merging(rf"layers\.{stage + merging_stage}\.downsample", stage)
    return (*rules, *_norm("norm", f"{PART}/norm"))


def _hugging_face_rules() -> tuple[Rule, ...]:
    rules = _embedding(r"embeddings\.patch_embeddings\.projection", r"embeddings\.norm")
    for stage in range(4):
        layer = rf"encoder\.layers\.{stage}"
        source, target = layer + r"\.blocks\.(\d+)", f"{PART}/stage_{stage}_block_{{0}}"
        attention, ours = source + r"\.attention", target + "/attention"
        for name in _QKV:
            kernel, bias = (rf"{attention}\.self\.{name}\.{leaf}" for leaf in ("weight", "bias"))
            rules += [Rule(kernel, f"{ours}/{name}/kernel", _at(stage, t.heads_kernel))]
            rules += [Rule(bias, f"{ours}/{name}/bias", _at(stage, t.heads_bias))]
        rules += [
            *_norm(source + r"\.layernorm_before", target + "/norm_1"),
            *_norm(source + r"\.layernorm_after", target + "/norm_2"),
            *_out(attention + r"\.output\.dense", ours, stage),
            Rule(attention + r"\.self\.relative_position_bias_table", ours + "/relative_position_bias"),
            *_linear(source + r"\.intermediate\.dense", target + "/mlp/up"),
            *_linear(source + r"\.output\.dense", target + "/mlp/down"),
        ]
        if stage < 3:
            rules += _merging(layer + r"\.downsample", stage)
    return (*rules, *_norm("layernorm", f"{PART}/norm"))


def _configure(arrays: Arrays, stem: str, block: str, table: str) -> dict[str, Any]:
    """Width, depths and window from the keys and the bias table's rows."""
    found = [(int(m[1]), int(m[2])) for key in arrays if (m := re.match(block, key))]
    side = math.isqrt(arrays[table].shape[0])
    mean, std = IMAGENET
    return {
        "name": "swin_t",
        "width_factor": arrays[stem].shape[0] / WIDTH,
        "depths": stage_depths(found, DEPTHS, _SMALL),
        "window": (side + 1) // 2,
        "mean": mean,
        "std": std,
    }


def _original(arrays: Arrays) -> dict[str, Any]:
    table = "layers.0.blocks.0.attn.relative_position_bias_table"
    return _configure(arrays, "patch_embed.proj.weight", r"layers\.(\d)\.blocks\.(\d+)\.", table)


def _hugging_face(arrays: Arrays) -> dict[str, Any]:
    table = "encoder.layers.0.blocks.0.attention.self.relative_position_bias_table"
    block = r"encoder\.layers\.(\d)\.blocks\.(\d+)\."
    return _configure(arrays, "embeddings.patch_embeddings.projection.weight", block, table)


LAYOUTS = (
    *layouts("swin", "Swin-T of its authors", _original_rules(0), (_BUFFERS,), "head", _original),
    *layouts("timm_swin", "timm Swin-T", _original_rules(1), (_BUFFERS,), r"head\.fc", _original),
    *layouts(
        "hf_swin",
        "Hugging Face Swin-T",
        _hugging_face_rules(),
        (_BUFFERS,),
        "classifier",
        _hugging_face,
        prefix=r"(?:swin\.)?",
    ),
)
