"""The BERT family in Hugging Face's names: BERT, MiniLM, PubMedBERT, and DistilBERT, which has no token types."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vlm_jax.config.schema import TextEncoderConfig
from vlm_jax.models.text_encoder import TextEncoder
from vlm_jax.weights.layouts import transforms as t
from vlm_jax.weights.layouts.vit import count_layers
from vlm_jax.weights.rules import Arrays, Layout, Rule

_PART = "text_encoder"
_BLOCK = _PART + "/blocks/layer_{0}"


def abstract_bert(config: Mapping[str, Any]) -> Any:
    """The parameters of `models.TextEncoder` with these sizes, as abstract arrays."""
    fields = ("width", "layers", "heads", "mlp", "positions", "token_types")
    module = TextEncoder(TextEncoderConfig(**{k: config[k] for k in fields}), config["vocab_size"])
    variables: Any = jax.eval_shape(module.init, jax.random.key(0), jnp.ones((1, 1), jnp.int32))
    return variables["params"]


def _norm(source: str, target: str) -> tuple[Rule, Rule]:
    """Checkpoints converted from TensorFlow call scale and bias gamma and beta."""
    return Rule(source + r"\.(?:weight|gamma)", target + "/scale"), Rule(source + r"\.(?:bias|beta)", target + "/bias")


def _linear(source: str, target: str) -> tuple[Rule, Rule]:
    return Rule(source + r"\.weight", target + "/kernel", t.linear), Rule(source + r"\.bias", target + "/bias")


def _attention(names: Mapping[str, str]) -> tuple[Rule, ...]:
    """{query, key, value, out: source} of one layer."""
    rules = []
    for part, source in names.items():
        kernel, bias = (t.out_kernel, None) if part == "out" else (t.heads_kernel, t.heads_bias)
        rules.append(Rule(source + r"\.weight", f"{_BLOCK}/attention/{part}/kernel", kernel))
        target = f"{_BLOCK}/attention/{part}/bias"
        rules.append(Rule(source + r"\.bias", target, bias) if bias else Rule(source + r"\.bias", target))
    return tuple(rules)


_EMBEDDINGS = (
    Rule(r"embeddings\.word_embeddings\.weight", f"{_PART}/word_embedding"),
    Rule(r"embeddings\.position_embeddings\.weight", f"{_PART}/position_embedding"),
    *_norm(r"embeddings\.LayerNorm", f"{_PART}/embedding_norm"),
)
_DROPS = (
    (r"(?:embeddings\.)?position_ids", "a constant: 0, 1, 2, ..."),
    (r"pooler\.dense\.(?:weight|bias)", "the pooler: heads and fusion here read tokens"),
    (r"cls\.predictions\..*", "the head of the masked language model"),
    (r"cls\.seq_relationship\.(?:weight|bias)", "the head of next-sentence prediction"),
    (r"(?:pre_)?classifier\.(?:weight|bias)|qa_outputs\.(?:weight|bias)", "the source's own classifier"),
)

# --- BERT -------------------------------------------------------------------------------------------------------------

_LAYER = r"encoder\.layer\.(\d+)\."
_BERT = (
    *_EMBEDDINGS,
    Rule(r"embeddings\.token_type_embeddings\.weight", f"{_PART}/token_type_embedding"),
    *_attention(
        {n: _LAYER + rf"attention\.self\.{n}" for n in ("query", "key", "value")}
        | {"out": _LAYER + r"attention\.output\.dense"}
    ),
    *_norm(_LAYER + r"attention\.output\.LayerNorm", f"{_BLOCK}/norm_1"),
    *_linear(_LAYER + r"intermediate\.dense", f"{_BLOCK}/mlp/up"),
    *_linear(_LAYER + r"output\.dense", f"{_BLOCK}/mlp/down"),
    *_norm(_LAYER + r"output\.LayerNorm", f"{_BLOCK}/norm_2"),
)


def _configure(layer: str, up: str, types: bool) -> Callable[[Arrays], dict[str, Any]]:
    """The function that reads a config fragment off the shapes."""

    def configure(arrays: Arrays) -> dict[str, Any]:
        vocab_size, width = arrays["embeddings.word_embeddings.weight"].shape
        token_types = arrays["embeddings.token_type_embeddings.weight"].shape[0] if types else 0
        return {
            "width": int(width),
            "layers": count_layers(arrays, layer),
            "mlp": int(arrays[next(k for k in arrays if re.fullmatch(layer + up, k))].shape[0]),
            "positions": int(arrays["embeddings.position_embeddings.weight"].shape[0]),
            "token_types": int(token_types),
            "vocab_size": int(vocab_size),
        }

    return configure


def _heads(head_width: int) -> Callable[[Mapping[str, Any]], int]:
    return lambda config: max(1, config["width"] // head_width)


def _bert(name: str, source: str, head_width: int) -> Layout:
    prefix = r"(?:(?:0\.auto_model|model|module|bert)\.)*"  # sentence-transformers', a trainer's, Hugging Face's
    configure = _configure(_LAYER, r"intermediate\.dense\.bias", types=True)
    return Layout(name, _PART, _BERT, _DROPS, configure, abstract_bert, prefix, _heads(head_width), source)


# --- DistilBERT -------------------------------------------------------------------------------------------------------

_DISTIL_LAYER = r"transformer\.layer\.(\d+)\."
_DISTIL = (
    *_EMBEDDINGS,
    *_attention(
        {"query": _DISTIL_LAYER + r"attention\.q_lin", "key": _DISTIL_LAYER + r"attention\.k_lin"}
        | {"value": _DISTIL_LAYER + r"attention\.v_lin", "out": _DISTIL_LAYER + r"attention\.out_lin"}
    ),
    *_norm(_DISTIL_LAYER + "sa_layer_norm", f"{_BLOCK}/norm_1"),
    *_linear(_DISTIL_LAYER + r"ffn\.lin1", f"{_BLOCK}/mlp/up"),
    *_linear(_DISTIL_LAYER + r"ffn\.lin2", f"{_BLOCK}/mlp/down"),
    *_norm(_DISTIL_LAYER + "output_layer_norm", f"{_BLOCK}/norm_2"),
)
_DISTIL_DROPS = (
    *_DROPS,
    (r"vocab_(?:transform|layer_norm|projector)\.(?:weight|bias)", "the head of the masked language model"),
)

LAYOUTS = (
    _bert("bert", "BERT", 64),
    _bert("minilm", "MiniLM (heads of 32)", 32),
    _bert("pubmedbert", "PubMedBERT (BERT with its own vocabulary)", 64),
    Layout(
        "distilbert",
        _PART,
        _DISTIL,
        _DISTIL_DROPS,
        _configure(_DISTIL_LAYER, r"ffn\.lin1\.bias", types=False),
        abstract_bert,
        r"(?:(?:model|module|distilbert)\.)*",
        _heads(64),
        "DistilBERT",
    ),
)
