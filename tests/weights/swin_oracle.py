"""Swin for the oracles of `test_backbone_parity`: a small one, its tables where a map is smaller than a window, and its
arrays under the authors' names."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
import transformers


def swin(depths: tuple[int, ...], width: int, size: int, window: int) -> Any:
    config = transformers.SwinConfig(
        embed_dim=width, depths=depths, num_heads=[3, 6, 12, 24], image_size=size, window_size=window, num_labels=5
    )
    return transformers.SwinForImageClassification(config)


def shrink_last_stage(oracle: Any, window: int) -> None:
    from transformers.models.swin.modeling_swin import SwinRelativePositionBias

    for block in oracle.swin.encoder.layers[3].blocks:
        bias = SwinRelativePositionBias(24, (window, window))
        torch.nn.init.normal_(bias.relative_position_bias_table)
        block.attention.relative_position_bias = bias


def as_in_a_full_window(arrays: dict[str, np.ndarray], window: int, side: int) -> dict[str, np.ndarray]:
    """The tables of the last stage as rows of a full window's table."""
    arrays = dict(arrays)
    for name, table in arrays.items():
        if "layers.3" in name and name.endswith("bias_table"):
            whole = np.full((2 * window - 1, 2 * window - 1, table.shape[1]), np.nan, np.float32)
            cut = slice(window - side, window + side - 1)
            whole[cut, cut] = table.reshape(2 * side - 1, 2 * side - 1, -1)
            arrays[name] = whole.reshape(-1, table.shape[1])
    return arrays


def original_names(arrays: dict[str, np.ndarray], merging: int, head: str) -> dict[str, np.ndarray]:
    """Hugging Face's arrays under the authors' names, query, key and value fused."""
    plain = (
        (r"^swin\.", ""),
        (r"^classifier", head),
        (r"embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
        (r"embeddings\.norm", "patch_embed.norm"),
        (r"^encoder\.", ""),
        (r"layernorm_before", "norm1"),
        (r"layernorm_after", "norm2"),
        (r"^layernorm", "norm"),
        (r"attention\.output\.dense", "attn.proj"),
        (r"intermediate\.dense", "mlp.fc1"),
        (r"output\.dense", "mlp.fc2"),
        (r"attention\.self\.relative", "attn.relative"),
    )
    out: dict[str, np.ndarray] = {"layers.0.blocks.1.attn_mask": np.zeros((4, 4))}
    for name, value in arrays.items():
        if ".self.key." in name or ".self.value." in name:
            continue
        if ".self.query." in name:
            value = np.concatenate([arrays[name.replace("query", part)] for part in ("query", "key", "value")])
            name = name.replace("attention.self.query", "attn.qkv")
        for pattern, new in plain:
            name = re.sub(pattern, new, name)
        name = re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) + merging}.downsample", name)
        out[name] = value
    return out
