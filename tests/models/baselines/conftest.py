"""Random torch weights, and GPT-2's as our tree: written out by hand, apart from the importer's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch


def randomise(module: torch.nn.Module, seed: int = 0, scale: float = 0.2) -> torch.nn.Module:
    """Weights large enough that a slip shows, running statistics too; set in place, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict(keep_vars=True).items():
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator) * scale
            if value.ndim == 1 and name.endswith("weight"):
                noise = noise + 1.0
            value.copy_(1.0 + noise.abs() if name.endswith("running_var") else noise)
    return module.eval()


def gpt2_params(state: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """transformers' GPT2Model -> parameters of models.baselines.gpt2.Gpt2; Conv1D kernels are [in, out] already."""
    s = {k: np.asarray(v) for k, v in state.items()}
    width, heads = config.width, config.heads
    per_head = (heads, width // heads)

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": s[f"{name}.weight"], "bias": s[f"{name}.bias"]}

    def attention(name: str) -> dict[str, Any]:
        kernels = np.split(s[f"{name}.c_attn.weight"], 3, axis=1)
        biases = np.split(s[f"{name}.c_attn.bias"], 3)
        tree: dict[str, Any] = {
            part: {"kernel": kernel.reshape(width, *per_head), "bias": bias.reshape(per_head)}
            for part, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True)
        }
        out = s[f"{name}.c_proj.weight"].reshape(*per_head, width)
        return {**tree, "out": {"kernel": out, "bias": s[f"{name}.c_proj.bias"]}}

    tree = {"word_embedding": s["wte.weight"], "position_embedding": s["wpe.weight"], "norm": norm("ln_f")}
    for i in range(config.layers):
        name = f"h.{i}"
        tree[f"layer_{i}"] = {
            "norm_1": norm(f"{name}.ln_1"),
            "norm_2": norm(f"{name}.ln_2"),
            "attention": attention(f"{name}.attn"),
            "mlp": {
                "up": {"kernel": s[f"{name}.mlp.c_fc.weight"], "bias": s[f"{name}.mlp.c_fc.bias"]},
                "down": {"kernel": s[f"{name}.mlp.c_proj.weight"], "bias": s[f"{name}.mlp.c_proj.bias"]},
            },
        }
    return tree


@pytest.fixture(scope="session")
def randomised():
    return randomise


@pytest.fixture(scope="session")
def gpt2_tree():
    return gpt2_params
