"""The optimiser: AdamW, warm-up and cosine, decay mask, layer-wise learning rates, freezing, clipping.

Regex to value, first match wins, every parameter covered: the tables below are the only place that names parameters.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vlm_jax.config.schema import Config, OptimConfig
from vlm_jax.errors import UserError
from vlm_jax.parallel.partition import param_name

# Parameters without weight decay beside all that have one dimension (EndoViT's fine-tuning recipe, paper.md).
NO_DECAY = r"(position|class_token|null_|frame_|landmark_tokens|bias|scale|log_variance|token_type|running_)"
_ENCODER_LAYER = re.compile(r"^(?:image_encoder|text_encoder)/blocks/layer_(\d+)/")
_ENCODER = re.compile(r"^(image_encoder|text_encoder)/")


def map_named(fn: Any, tree: Any) -> Any:
    """tree.map of `fn(name, leaf)`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: fn(param_name(path), leaf), tree)


def make_schedule(optim: OptimConfig, steps: int) -> optax.Schedule:
    """Linear warm-up from 0 to `lr`, cosine to `lr * end_lr_factor` at `steps`."""
    warmup = min(optim.warmup_steps, max(steps - 1, 0))
    return optax.schedules.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup else optim.lr,
        peak_value=optim.lr,
        warmup_steps=warmup,
        decay_steps=max(steps, warmup + 1),
        end_value=optim.lr * optim.end_lr_factor,
    )


def decay_mask(params: Any) -> Any:
    """True where weight decay applies: matrices that are no position, token or null embedding."""
    return map_named(lambda name, leaf: leaf.ndim > 1 and not re.search(NO_DECAY, name), params)


def layer_scales(params: Any, config: Config) -> Any:
    """Learning-rate factor of each parameter: `layer_decay ** depth below the top` in both encoders, 1 elsewhere.

    As in MAE's and BEiT's fine-tuning: embeddings are layer 0, block i of L is layer i + 1, the final norm and all
    that is not an encoder is layer L + 1. A scanned parameter gets one factor a layer along its first axis.
    """
    decay = config.optim.layer_decay
    layers = {"image_encoder": config.model.image_encoder.layers, "text_encoder": config.model.text_encoder.layers}

    def scale(name: str, leaf: Any) -> Any:
        encoder = _ENCODER.match(name)
        if decay == 1.0 or encoder is None:
            return 1.0
        total = layers[encoder.group(1)]
        if layer := _ENCODER_LAYER.match(name):
            return decay ** (total - int(layer.group(1)))
        if "/blocks/" in name:
            powers = decay ** jnp.arange(total, 0, -1, dtype=jnp.float32)
            return powers.reshape((total,) + (1,) * (leaf.ndim - 1))
        return 1.0 if "/norm/" in name else decay ** (total + 1)

    return map_named(scale, params)


def trainable_labels(params: Any, freeze: str) -> Any:
    """`train` or `freeze` for each parameter; a regex that matches nothing is a UserError."""
    if not freeze:
        return jax.tree.map(lambda _: "train", params)
    try:
        pattern = re.compile(freeze)
    except re.error as error:
        raise UserError(f"optim.freeze={freeze!r} is not a regular expression: {error}") from error
    labels = map_named(lambda name, _: "freeze" if pattern.search(name) else "train", params)
    found = set(jax.tree.leaves(labels))
    if "freeze" not in found:
        raise UserError(f"optim.freeze={freeze!r} matches no parameter; `vlm-jax inspect` lists their names")
    if "train" not in found:
        raise UserError(f"optim.freeze={freeze!r} matches every parameter: nothing is left to train")
    return labels


def trainable_norm(gradients: Any, freeze: str) -> jax.Array:
    """Global norm of the gradients of what is not frozen."""
    labels = trainable_labels(gradients, freeze)
    return optax.global_norm(jax.tree.map(lambda g, label: g if label == "train" else None, gradients, labels))


def _scale_by_tree(scales: Any) -> optax.GradientTransformation:
    """Multiplies every update by its own constant."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        is_masked = lambda x: isinstance(x, optax.MaskedNode)  # noqa: E731
        scaled = jax.tree.map(lambda s, u: u if is_masked(u) else u * s, scales, updates, is_leaf=is_masked)
        return scaled, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def make_optimizer(config: Config, params: Any) -> optax.GradientTransformation:
    """Builds the optimiser for a tree of parameters (arrays or ShapeDtypeStructs).

    The global norm is clipped over trainable parameters only, before Adam (decoupled decay: Loshchilov and Hutter
    2019); the layer-wise factor scales the step and the decay alike.
    """
    optim = config.optim
    transforms = []
    if optim.clip_norm > 0:
        transforms.append(optax.clip_by_global_norm(optim.clip_norm))
    transforms += [
        optax.scale_by_adam(b1=optim.b1, b2=optim.b2, eps=optim.eps),
        optax.add_decayed_weights(optim.weight_decay, mask=decay_mask),
    ]
    if optim.layer_decay != 1.0:
        scales = layer_scales(params, config)
        transforms.append(_scale_by_tree(scales))
    transforms.append(optax.scale_by_learning_rate(make_schedule(optim, config.train.steps)))
    trained = optax.chain(*transforms)
    labels = trainable_labels(params, optim.freeze)
    if not optim.freeze:
        return trained
    return optax.partition({"train": trained, "freeze": optax.set_to_zero()}, labels)
