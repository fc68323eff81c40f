"""What the model hands out: outputs of a teacher-forced pass, and the memory and cache of decoding. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import jax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Outputs:
    """Of a teacher-forced pass. R = number of enabled text tasks, in the order of contract.TASKS.

    Attributes:
      landmark_logits: f32[B, C], or None without the landmarks task.
      token_logits: f32[B, R, T - 1, V], V as `products.rows_said` has it; entry t is for target token t + 1; None
        without a text task.
      region_logits: f32[B, h, w, C] of the places of the frame itself; None without `model.region_width`.
      pretraining: what an objective of pre-training compares; None in every other run.
    """

    landmark_logits: jax.Array | None
    token_logits: jax.Array | None
    pretraining: Reconstruction | MaskedTokens | None = None
    region_logits: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Reconstruction:
    """Of a masked autoencoder, P patches of N = patch * patch * 3 values each.

    Attributes:
      predicted: f32[B, P, N].
      wanted: f32[B, P, N], the image itself.
      hidden: bool[B, P]; True = the encoder did not see it, and it counts.
    """

    predicted: jax.Array
    wanted: jax.Array
    hidden: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MaskedTokens:
    """Of a masked language model, M places of each text that may be hidden.

    Attributes:
      logits: f32[B, M, V].
      wanted: int32[B, M], the token that stood there; 0 = nothing is hidden here.
    """

    logits: jax.Array
    wanted: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LayerMemory:
    """What one decoder layer attends to, projected once: prompts [B, R, S, N, H], image [B, P, N, H]."""

    prompt_keys: jax.Array
    prompt_values: jax.Array
    image_keys: jax.Array
    image_values: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """An encoded batch, ready to decode.

    Attributes:
      landmark_logits: f32[B, C], or None.
      layers: one a decoder layer; empty without a text task.
      prompt_mask: bool[B, R, S].
      image_mask: bool[B, P].
      region_logits: as in `Outputs`.
    """

    landmark_logits: jax.Array | None
    layers: tuple[LayerMemory, ...]
    prompt_mask: jax.Array
    image_mask: jax.Array
    region_logits: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """Self-attention keys and values of the tokens decoded so far, one [B, R, W, L, N, H] a decoder layer.

    W = beams: reorder a beam by taking along axis 2 of every array.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
