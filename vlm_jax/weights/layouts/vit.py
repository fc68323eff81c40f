"""Vision transformers: timm's and MAE's names with fused query, key and value, and Hugging Face's ViT and DeiT."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.config.schema import ImageEncoderConfig
from vlm_jax.models.image_encoder import ImageEncoder
from vlm_jax.weights.layouts import transforms as t
from vlm_jax.weights.rules import Arrays, Layout, Rule

_PART = "image_encoder"
_BLOCK = _PART + "/blocks/layer_{0}"
_QKV = ("query", "key", "value")
HALF = (0.5, 0.5, 0.5)  # the augreg weights of timm and Google's ViT
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ENDOVIT = ((0.3464, 0.2280, 0.2228), (0.2520, 0.2128, 0.2093))


def abstract_vit(config: Mapping[str, Any]) -> Any:
    """The parameters of `models.ImageEncoder` with these sizes, as abstract arrays."""
    fields = ("width", "layers", "heads", "mlp", "patch")
    module = ImageEncoder(ImageEncoderConfig(**{k: config[k] for k in fields}), config["image_size"])
    image = jnp.zeros((1, config["image_size"], config["image_size"], 3))
    variables: Any = jax.eval_shape(module.init, jax.random.key(0), image)
    return variables["params"]


def count_layers(arrays: Arrays, pattern: str) -> int:
    """One more than the greatest number that `pattern`'s group finds in the keys; KeyError where none matches."""
    found = [int(m[1]) for key in arrays if (m := re.match(pattern, key))]
    if not found:
        raise KeyError(pattern.replace("\\d+", "0").replace("\\", "").replace("(0)", "0"))
    return 1 + max(found)


def _configure(arrays: Arrays, names: Mapping[str, str], extra_tokens: int = 1) -> dict[str, Any]:
    """The config fragment from one bias, the patch embedding and the positions."""
    patch, positions = arrays[names["patch"]], arrays[names["positions"]]
    if patch.ndim != 4 or positions.ndim != 3:
        raise KeyError(f"{names['patch']} with 4 axes and {names['positions']} with 3")
    side = math.isqrt(positions.shape[1] - extra_tokens)
    if side * side != positions.shape[1] - extra_tokens:
        raise KeyError(f"{names['positions']} with {extra_tokens} and a square number of rows")
    return {
        "width": int(arrays[names["norm"]].shape[0]),
        "layers": count_layers(arrays, names["block"]),
        "mlp": int(arrays[next(k for k in arrays if re.fullmatch(names["up"], k))].shape[0]),
        "patch": int(patch.shape[-1]),
        "image_size": side * int(patch.shape[-1]),
    }


_HEADS = {1280: 16, 1408: 16, 1664: 16}
"""ViT-H, ViT-g and ViT-G have wider heads."""


def _heads(config: Mapping[str, Any]) -> int:
    """ViT's heads are 64 wide up to ViT-L (Dosovitskiy et al. 2021, Zhai et al. 2022)."""
    return _HEADS.get(config["width"], max(1, config["width"] // 64))


def _norm(source: str, target: str) -> tuple[Rule, Rule]:
    return Rule(source + r"\.weight", target + "/scale"), Rule(source + r"\.bias", target + "/bias")


def _linear(source: str, target: str) -> tuple[Rule, Rule]:
    return Rule(source + r"\.weight", target + "/kernel", t.linear), Rule(source + r"\.bias", target + "/bias")


def _positions(array: np.ndarray, config: Mapping[str, Any]) -> np.ndarray:
    """[1, 1 + P, D] -> [1 + P, D]."""
    rows = 1 + (config["image_size"] // config["patch"]) ** 2
    t.expect(array, (1, rows, config["width"]))
    return array[0]


# --- timm and MAE -----------------------------------------------------------------------------------------------------

_TIMM = (
    Rule("cls_token", f"{_PART}/class_token", t.class_token),
    Rule("pos_embed", f"{_PART}/position_embedding", _positions),
    Rule(r"patch_embed\.proj\.weight", f"{_PART}/patch_embedding/kernel", t.patch_kernel),
    Rule(r"patch_embed\.proj\.bias", f"{_PART}/patch_embedding/bias"),
    *_norm(r"blocks\.(\d+)\.norm1", f"{_BLOCK}/norm_1"),
    *_norm(r"blocks\.(\d+)\.norm2", f"{_BLOCK}/norm_2"),
    Rule(r"blocks\.(\d+)\.attn\.qkv\.weight", tuple(f"{_BLOCK}/attention/{n}/kernel" for n in _QKV), t.fused_kernels),
    Rule(r"blocks\.(\d+)\.attn\.qkv\.bias", tuple(f"{_BLOCK}/attention/{n}/bias" for n in _QKV), t.fused_biases),
    Rule(r"blocks\.(\d+)\.attn\.proj\.weight", f"{_BLOCK}/attention/out/kernel", t.out_kernel),
    Rule(r"blocks\.(\d+)\.attn\.proj\.bias", f"{_BLOCK}/attention/out/bias"),
    *_linear(r"blocks\.(\d+)\.mlp\.fc1", f"{_BLOCK}/mlp/up"),
    *_linear(r"blocks\.(\d+)\.mlp\.fc2", f"{_BLOCK}/mlp/down"),
    *_norm("norm", f"{_PART}/norm"),
)
_TIMM_NAMES = {
    "patch": "patch_embed.proj.weight",
    "positions": "pos_embed",
    "norm": "norm.weight",
    "block": r"blocks\.(\d+)\.",
    "up": r"blocks\.\d+\.mlp\.fc1\.bias",
}
_HEAD = (r"(?:head|pre_logits\.fc)\.(?:weight|bias)", "the source's own classifier")
_TRAINING = (r"(?:optimizer|scaler|epoch|args|lr_scheduler)(?:\..*)?", "state of the source's training")
_MAE_DROPS = (
    (r"decoder_.*", "MAE's decoder: it serves pre-training only"),
    (r"mask_token", "MAE's mask token: it serves pre-training only"),
    _HEAD,
    _TRAINING,
)


def _timm(name: str, source: str, drops: tuple[tuple[str, str], ...], normalise: Any, known: Any = ()) -> Layout:
    def configure(arrays: Arrays) -> dict[str, Any]:
        mean, std = normalise
        return {**_configure(arrays, _TIMM_NAMES), "mean": mean, "std": std}

    prefix = r"(?:(?:model|module|backbone|encoder)\.)*"
    return Layout(name, _PART, _TIMM, drops, configure, abstract_vit, prefix, _heads, source, known)


# --- Hugging Face -----------------------------------------------------------------------------------------------------

_HF_LAYER = r"(?:encoder\.layer|layers)\.(\d+)\."
_HF = (
    Rule(r"embeddings\.cls_token", f"{_PART}/class_token", t.class_token),
    Rule(r"embeddings\.patch_embeddings\.projection\.weight", f"{_PART}/patch_embedding/kernel", t.patch_kernel),
    Rule(r"embeddings\.patch_embeddings\.projection\.bias", f"{_PART}/patch_embedding/bias"),
    *_norm(_HF_LAYER + "layernorm_before", f"{_BLOCK}/norm_1"),
    *_norm(_HF_LAYER + "layernorm_after", f"{_BLOCK}/norm_2"),
    *(
        rule
        for name in _QKV
        for source in (rf"attention\.(?:attention\.{name}|{name[0]}_proj)",)
        for rule in (
            Rule(_HF_LAYER + source + r"\.weight", f"{_BLOCK}/attention/{name}/kernel", t.heads_kernel),
            Rule(_HF_LAYER + source + r"\.bias", f"{_BLOCK}/attention/{name}/bias", t.heads_bias),
        )
    ),
    Rule(_HF_LAYER + r"attention\.(?:output\.dense|o_proj)\.weight", f"{_BLOCK}/attention/out/kernel", t.out_kernel),
    Rule(_HF_LAYER + r"attention\.(?:output\.dense|o_proj)\.bias", f"{_BLOCK}/attention/out/bias"),
    *_linear(_HF_LAYER + r"(?:intermediate\.dense|mlp\.fc1)", f"{_BLOCK}/mlp/up"),
    *_linear(_HF_LAYER + r"(?:output\.dense|mlp\.fc2)", f"{_BLOCK}/mlp/down"),
    *_norm("layernorm", f"{_PART}/norm"),
)
_HF_NAMES = {
    "patch": "embeddings.patch_embeddings.projection.weight",
    "positions": "embeddings.position_embeddings",
    "norm": "layernorm.weight",
    "block": _HF_LAYER,
    "up": _HF_LAYER + r"(?:intermediate\.dense|mlp\.fc1)\.bias",
}
_HF_DROPS = (
    (r"pooler\.dense\.(?:weight|bias)", "the pooler: heads here read tokens"),
    (r"(?:\w+_)?classifier\.(?:weight|bias)", "the source's own classifier"),
    (r"embeddings\.mask_token", "the mask token: it serves pre-training only"),
    (r"decoder\..*", "the decoder of masked pre-training"),
    _TRAINING,
)
_DISTILLATION = (
    r"embeddings\.distillation_token",
    "the distillation token and its position: our encoder has one extra token, the class token",
)


def _without_distillation(array: np.ndarray, config: Mapping[str, Any]) -> np.ndarray:
    """[1, 2 + P, D] -> [1 + P, D]: row 1 belongs to the distillation token, which is dropped."""
    rows = 2 + (config["image_size"] // config["patch"]) ** 2
    t.expect(array, (1, rows, config["width"]))
    return np.delete(array[0], 1, axis=0)


def _hugging_face(name: str, source: str, prefix: str, normalise: Any, distilled: bool) -> Layout:
    def configure(arrays: Arrays) -> dict[str, Any]:
        mean, std = normalise
        found = _configure(arrays, _HF_NAMES, 2 if distilled else 1)
        return {**found, "epsilon": 1e-12, "mean": mean, "std": std}

    positions = Rule(
        r"embeddings\.position_embeddings",
        f"{_PART}/position_embedding",
        _without_distillation if distilled else _positions,
    )
    drops = (*_HF_DROPS, _DISTILLATION) if distilled else _HF_DROPS
    return Layout(name, _PART, (*_HF, positions), drops, configure, abstract_vit, prefix, _heads, source)


LAYOUTS = (
    _timm("timm_vit", "timm ViT", (_HEAD, _TRAINING), (HALF, HALF)),
    _timm("mae_vit", "MAE", _MAE_DROPS, IMAGENET),
    _timm(
        "endovit",
        "EndoViT (MAE at ViT-B/16)",
        _MAE_DROPS,
        ENDOVIT,
        (("width", 768), ("layers", 12), ("mlp", 3072), ("patch", 16)),
    ),
    _hugging_face("hf_vit", "Hugging Face ViT", r"(?:(?:model|module|vit)\.)*", (HALF, HALF), False),
    _hugging_face("hf_deit", "Hugging Face DeiT, distilled", r"(?:(?:model|module|deit)\.)*", IMAGENET, True),
)
