"""GPT-2 in Hugging Face's names. Its Conv1D keeps kernels as [in, out], unlike torch's linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.config.schema import GptConfig
from vlm_jax.models.baselines.gpt2 import MLP_RATIO, Gpt2
from vlm_jax.weights.layouts import transforms as t
from vlm_jax.weights.layouts.vit import count_layers
from vlm_jax.weights.rules import Arrays, Layout, Rule

_PART = "gpt"
_LAYER = r"h\.(\d+)\."
_BLOCK = _PART + "/layer_{0}"
_HEAD_WIDTH = 64  # of all four published sizes


def abstract_gpt(config: Mapping[str, Any]) -> Any:
    """The parameters of `Gpt2` with these sizes, as abstract arrays."""
    sizes = GptConfig(**{k: config[k] for k in ("width", "layers", "heads", "positions")})
    module = Gpt2(sizes, config["vocab_size"])
    inputs = jnp.zeros((1, 1, sizes.width)), jnp.ones((1, 1), bool)
    variables: Any = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return variables["params"]


def _kernels(array: np.ndarray, config: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """[D, 3 D], query, key and value side by side -> three [D, N, H]."""
    width, heads = config["width"], config["heads"]
    t.expect(array, (width, 3 * width))
    return tuple(part.reshape(width, heads, width // heads) for part in np.split(array, 3, axis=1))


def _out(array: np.ndarray, config: Mapping[str, Any]) -> np.ndarray:
    """[D, D], [in, out] -> [N, H, D]."""
    width, heads = config["width"], config["heads"]
    t.expect(array, (width, width))
    return array.reshape(heads, width // heads, width)


def _up(array: np.ndarray, config: Mapping[str, Any]) -> np.ndarray:
    t.expect(array, (config["width"], MLP_RATIO * config["width"]))
    return array


def _down(array: np.ndarray, config: Mapping[str, Any]) -> np.ndarray:
    t.expect(array, (MLP_RATIO * config["width"], config["width"]))
    return array


def _norm(source: str, target: str) -> tuple[Rule, Rule]:
    return Rule(source + r"\.weight", target + "/scale"), Rule(source + r"\.bias", target + "/bias")


_QKV = ("query", "key", "value")
_RULES = (
    Rule(r"wte\.weight", f"{_PART}/word_embedding"),
    Rule(r"wpe\.weight", f"{_PART}/position_embedding"),
    *_norm(_LAYER + r"ln_1", f"{_BLOCK}/norm_1"),
    *_norm(_LAYER + r"ln_2", f"{_BLOCK}/norm_2"),
    Rule(_LAYER + r"attn\.c_attn\.weight", tuple(f"{_BLOCK}/attention/{n}/kernel" for n in _QKV), _kernels),
    Rule(_LAYER + r"attn\.c_attn\.bias", tuple(f"{_BLOCK}/attention/{n}/bias" for n in _QKV), t.fused_biases),
    Rule(_LAYER + r"attn\.c_proj\.weight", f"{_BLOCK}/attention/out/kernel", _out),
    Rule(_LAYER + r"attn\.c_proj\.bias", f"{_BLOCK}/attention/out/bias"),
    Rule(_LAYER + r"mlp\.c_fc\.weight", f"{_BLOCK}/mlp/up/kernel", _up),
    Rule(_LAYER + r"mlp\.c_fc\.bias", f"{_BLOCK}/mlp/up/bias"),
    Rule(_LAYER + r"mlp\.c_proj\.weight", f"{_BLOCK}/mlp/down/kernel", _down),
    Rule(_LAYER + r"mlp\.c_proj\.bias", f"{_BLOCK}/mlp/down/bias"),
    *_norm(r"ln_f", f"{_PART}/norm"),
)
_DROPS = (
    (r"h\.\d+\.attn\.(?:bias|masked_bias)", "the causal mask and its constant: buffers, not weights"),
    (r"lm_head\.weight", "tied: the word embedding again"),
)


def _configure(arrays: Arrays) -> dict[str, Any]:
    vocab_size, width = arrays["wte.weight"].shape
    return {
        "width": int(width),
        "layers": count_layers(arrays, _LAYER),
        "positions": int(arrays["wpe.weight"].shape[0]),
        "vocab_size": int(vocab_size),
    }


def _heads(config: Mapping[str, Any]) -> int:
    return max(1, config["width"] // _HEAD_WIDTH)


LAYOUTS = (
    Layout("gpt2", _PART, _RULES, _DROPS, _configure, abstract_gpt, r"(?:(?:transformer|module)\.)*", _heads, "GPT-2"),
)
