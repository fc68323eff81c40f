"""The transformer of 2017 against torch.nn's layers, and its positions against the formula."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import torch

from vlm_jax.config.schema import Seq2SeqConfig
from vlm_jax.models.baselines.transformer import Transformer, sinusoids

CONFIG = Seq2SeqConfig(width=16, layers=2, heads=4, mlp=24)
WIDTH, HEADS = CONFIG.width, CONFIG.heads


def test_positions_are_those_of_the_paper():
    table = sinusoids(9, WIDTH)
    for place in (0, 1, 8):
        for i in range(WIDTH // 2):
            angle = place / 10_000 ** (2 * i / WIDTH)
            np.testing.assert_allclose(table[place, 2 * i : 2 * i + 2], [math.sin(angle), math.cos(angle)], atol=1e-6)


def _linear(kernel: np.ndarray, bias: np.ndarray, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Torch's weight [out, in] and bias of one of our kernels, `rows` its flat input size."""
    return torch.from_numpy(kernel.reshape(rows, -1).T.copy()), torch.from_numpy(bias.reshape(-1).copy())


def _attention(module: torch.nn.MultiheadAttention, ours: dict) -> None:
    parts = [_linear(ours[name]["kernel"], ours[name]["bias"], WIDTH) for name in ("query", "key", "value")]
    module.in_proj_weight.copy_(torch.cat([weight for weight, _ in parts]))
    module.in_proj_bias.copy_(torch.cat([bias for _, bias in parts]))
    weight, bias = _linear(ours["out"]["kernel"], ours["out"]["bias"], WIDTH)
    module.out_proj.weight.copy_(weight)
    module.out_proj.bias.copy_(bias)


def _fill(layer: torch.nn.Module, ours: dict, norms: tuple[str, ...]) -> torch.nn.Module:
    with torch.no_grad():
        _attention(layer.self_attn, ours.get("self_attention", ours.get("attention")))
        if "cross_attention" in ours:
            _attention(layer.multihead_attn, ours["cross_attention"])
        for module, name in ((layer.linear1, "up"), (layer.linear2, "down")):
            weight, bias = _linear(ours["mlp"][name]["kernel"], ours["mlp"][name]["bias"], module.in_features)
            module.weight.copy_(weight)
            module.bias.copy_(bias)
        for i, name in enumerate(norms, 1):
            norm = getattr(layer, f"norm{i}")
            norm.weight.copy_(torch.tensor(ours[name]["scale"]))
            norm.bias.copy_(torch.tensor(ours[name]["bias"]))
    return layer.eval()


def test_whole_network_equals_torch_with_padding():
    rng = np.random.default_rng(0)
    prompts, targets = (rng.normal(size=(3, 1, n, WIDTH)).astype(np.float32) for n in (7, 4))
    mask = (np.arange(7) < np.array([7, 3, 1])[:, None])[:, None]
    module = Transformer(CONFIG, positions=9)

    def run(module, prompts, mask, targets):
        return module(targets, module.encode(prompts, mask))

    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), prompts, mask, targets, method=run))
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.4, leaf.shape), jnp.float32), shapes)
    hidden = jax.jit(lambda v: module.apply(v, prompts, mask, targets, method=run))(variables)

    params = jax.tree.map(np.asarray, variables["params"])
    options = {"dropout": 0.0, "activation": "relu", "batch_first": True, "norm_first": False}
    table = sinusoids(9, WIDTH)
    memory, x = (torch.from_numpy(v[:, 0] * math.sqrt(WIDTH) + table[: v.shape[2]]).float() for v in (prompts, targets))
    padding = torch.from_numpy(~mask[:, 0])
    causal = torch.ones(4, 4, dtype=torch.bool).triu(1)
    with torch.no_grad():
        for i in range(CONFIG.layers):
            layer = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, CONFIG.mlp, **options)
            memory = _fill(layer, params[f"encoder_{i}"], ("norm_1", "norm_2"))(memory, src_key_padding_mask=padding)
            memory = torch.nn.functional.pad(memory, (0, 0, 0, 7 - memory.shape[1]))  # torch cuts trailing padding
        for i in range(CONFIG.layers):
            layer = torch.nn.TransformerDecoderLayer(WIDTH, HEADS, CONFIG.mlp, **options)
            x = _fill(layer, params[f"decoder_{i}"], ("norm_self", "norm_cross", "norm_mlp"))(
                x, memory, tgt_mask=causal, memory_key_padding_mask=padding
            )
    np.testing.assert_allclose(np.asarray(hidden)[:, 0], x, atol=1e-4)
