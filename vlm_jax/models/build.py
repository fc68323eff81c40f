"""From a Config to a model and its parameters. A system is one row of SYSTEMS."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import Config
from vlm_jax.contract import TASKS
from vlm_jax.errors import UserError
from vlm_jax.models.baselines.hmm import Hmm, make_hmm
from vlm_jax.models.baselines.landmark_cnn import LandmarkCnn, make_landmark_cnn
from vlm_jax.models.baselines.seq2seq import KEYWORD_TASKS, NAVIGATION_TASKS, Seq2Seq, make_seq2seq
from vlm_jax.models.baselines.surgical_gpt import SurgicalGpt, make_surgical_gpt
from vlm_jax.models.layers import remat_of
from vlm_jax.models.pretrain.mae import Mae
from vlm_jax.models.pretrain.mlm import MaskedLanguage
from vlm_jax.models.vlm import Vlm


def build_model(config: Config, n_landmarks: int, n_tokens: int) -> nn.Module:
    """The system that `config.system` names.

    Args:
      config: of the run.
      n_landmarks: labels of the run's LabelSpace.
      n_tokens: the tokenizer's size.

    Raises:
      UserError: an unknown system, or sizes that do not fit one another.
    """
    if config.system not in SYSTEMS:
        raise UserError(f"config.system is {config.system!r}; expected one of {', '.join(SYSTEMS)}")
    if config.model.attention == "cudnn" and why_no_cudnn(config):  # the same parameters, by plain operations
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, attention="xla"))
    return SYSTEMS[config.system](config, n_landmarks, n_tokens)


def why_no_cudnn(config: Config) -> str:
    """What keeps the fused kernel from running here; empty where nothing does."""
    if jax.default_backend() != "gpu":
        return f"this machine computes on its {jax.default_backend().upper()}"
    return "" if resolve_dtype(config.model.dtype) == jnp.bfloat16 else f"model.dtype is {config.model.dtype}"


def init_params(model: nn.Module, config: Config, key: jax.Array) -> dict[str, Any]:
    """Fresh float32 parameters. Pure: works under jit (with out_shardings, say) and jax.eval_shape."""
    k, size, data = len(TASKS), config.data.image_size, config.data
    variables: Any = model.init(
        key,
        jnp.zeros((1, 1, size, size, 3), jnp.uint8),
        jnp.ones((1, 1), bool),
        jnp.ones((1, k, data.prompt_length), jnp.int32),
        jnp.ones((1, k, data.target_length), jnp.int32),
    )
    return dict(variables["params"])


def resolve_dtype(name: str) -> Any:
    """`auto` is bfloat16 on accelerators and float32 on CPU, where bfloat16 is emulated and slow."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if name not in ("float32", "bfloat16"):
        raise UserError(f"config.model.dtype is {name!r}; expected auto, float32 or bfloat16")
    return jnp.dtype(name)


def _make_vlm(config: Config, n_landmarks: int, n_tokens: int) -> Vlm:
    _check(config, n_tokens)
    return Vlm(
        config=config.model,
        image_size=config.data.image_size,
        n_landmarks=n_landmarks,
        n_tokens=n_tokens,
        tasks=tuple(t for t in TASKS if t in config.tasks),
        n_frames=config.data.frames,
        dtype=resolve_dtype(config.model.dtype),
    )


def _make_mae(config: Config, n_landmarks: int, n_tokens: int) -> Mae:
    del n_landmarks, n_tokens
    m = config.model
    return Mae(
        image=m.image_encoder,
        mae=m.mae,
        image_size=config.data.image_size,
        dtype=resolve_dtype(m.dtype),
        remat=remat_of(m),
        scan=m.scan_layers,
        attention=m.attention,
    )


def _make_mlm(config: Config, n_landmarks: int, n_tokens: int) -> MaskedLanguage:
    del n_landmarks
    m = config.model
    if 0 < m.vocab_size < n_tokens:
        raise UserError(
            f"config.model.vocab_size is {m.vocab_size}, but the tokenizer has {n_tokens} words; raise it or set 0"
        )
    return MaskedLanguage(
        text=m.text_encoder,
        vocab_size=max(m.vocab_size, n_tokens),
        n_tokens=n_tokens,
        dtype=resolve_dtype(m.dtype),
        dropout=m.dropout,
        remat=remat_of(m),
        scan=m.scan_layers,
        attention=m.attention,
    )


def _make_navigation(config: Config, n_landmarks: int, n_tokens: int) -> Seq2Seq:
    del n_landmarks
    return make_seq2seq(config, n_tokens, resolve_dtype(config.model.dtype), NAVIGATION_TASKS)


def _make_keyword_report(config: Config, n_landmarks: int, n_tokens: int) -> Seq2Seq:
    del n_landmarks
    return make_seq2seq(config, n_tokens, resolve_dtype(config.model.dtype), KEYWORD_TASKS)


def _make_hmm(config: Config, n_landmarks: int, n_tokens: int) -> Hmm:
    del n_landmarks
    return make_hmm(config, n_tokens)


def _make_landmark_cnn(config: Config, n_landmarks: int, n_tokens: int) -> LandmarkCnn:
    del n_tokens
    return make_landmark_cnn(config, n_landmarks, resolve_dtype(config.model.dtype))


def _make_surgical_gpt(config: Config, n_landmarks: int, n_tokens: int) -> SurgicalGpt:
    return make_surgical_gpt(config, n_landmarks, n_tokens, resolve_dtype(config.model.dtype))


def _check(config: Config, n_tokens: int) -> None:
    """Sizes that must fit one another: found here, with the key to change, and not deep inside a trace."""
    m, d = config.model, config.data
    image, text, decoder = m.image_encoder, m.text_encoder, m.decoder
    unknown = [t for t in config.tasks if t not in TASKS]
    if unknown or not config.tasks:
        raise UserError(f"config.tasks is {config.tasks!r}; expected one or more of {', '.join(TASKS)}")
    if m.fusion not in ("cross_attention", "concat", "pooled", "separate"):
        raise UserError(f"config.model.fusion is {m.fusion!r}; expected cross_attention, concat, pooled or separate")
    if m.attention not in ("xla", "cudnn"):
        raise UserError(f"config.model.attention is {m.attention!r}; expected xla or cudnn")
    for key, width, heads in (
        ("image_encoder.heads", image.width, image.heads),
        ("text_encoder.heads", text.width, text.heads),
        ("decoder.heads", text.width, decoder.heads),
        ("fusion_heads", image.width, m.fusion_heads),
        ("fusion_heads", text.width, m.fusion_heads),
    ):
        if heads < 1 or width % heads:
            raise UserError(f"config.model.{key} is {heads}, which does not divide the width {width}")
    if d.image_size % image.patch:
        raise UserError(f"config.data.image_size is {d.image_size}; expected a multiple of the patch, {image.patch}")
    for key, length, part, rows in (
        ("prompt_length", d.prompt_length, "text_encoder", text.positions),
        ("target_length", d.target_length, "decoder", decoder.positions),
    ):
        if length > rows:
            raise UserError(f"config.data.{key} is {length}, but config.model.{part}.positions is {rows}: change one")
    if 0 < m.vocab_size < n_tokens:
        raise UserError(
            f"config.model.vocab_size is {m.vocab_size}, but the tokenizer has {n_tokens} words; raise it or set 0"
        )


SYSTEMS: dict[str, Callable[[Config, int, int], nn.Module]] = {
    "vlm": _make_vlm,
    "landmark_cnn": _make_landmark_cnn,
    "surgical_gpt": _make_surgical_gpt,
    "navigation_seq2seq": _make_navigation,
    "keyword_report": _make_keyword_report,
    "hmm": _make_hmm,
    "mae": _make_mae,
    "mlm": _make_mlm,
}
"""Every system by the name that config.system gives; those of training.fit.FIT_SYSTEMS learn without gradients."""
