"""Causal decoder (Vaswani et al. 2017), pre-norm: self-attention, one cross-attention over prompt and image, MLP.

The R text tasks of an example share its image. Their queries are folded into one axis against the image's keys, so
those are projected once a frame and never repeated; each task's own prompt joins them under the same softmax.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import DecoderConfig
from vlm_jax.models import initializers
from vlm_jax.models.attention import Attention, attend, attend_to_both
from vlm_jax.models.layers import PRE_NORM_EPSILON, Mlp, layer_norm, recomputed
from vlm_jax.models.state import Cache, LayerMemory, Memory
from vlm_jax.parallel.copies import TensorCopies, tensor_copies
from vlm_jax.parallel.partition import constrain_batch


class DecoderLayer(nn.Module):
    """One layer; the same parameters serve a teacher-forced pass (`__call__`) and a cached step (`step`)."""

    width: int
    heads: int
    mlp_width: int
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0
    attention: str = "xla"

    def setup(self) -> None:
        self.norm_self = layer_norm(PRE_NORM_EPSILON, self.dtype)
        self.norm_cross = layer_norm(PRE_NORM_EPSILON, self.dtype)
        self.norm_mlp = layer_norm(PRE_NORM_EPSILON, self.dtype)
        self.self_attention = Attention(self.width, self.heads, self.dtype, self.attention)
        self.cross_attention = Attention(self.width, self.heads, self.dtype, self.attention)
        self.mlp = Mlp(self.width, self.mlp_width, self.dtype)
        self.drop = nn.Dropout(self.dropout)

    def project(self, memory: jax.Array | TensorCopies, r: int, s: int) -> LayerMemory:
        """Prompts and image [B, R * S + P, D] through the one key and value projection of the cross-attention."""
        parts = []
        for array in self.cross_attention.keys_values(memory):
            prompts = array[:, : r * s].reshape(array.shape[0], r, s, *array.shape[2:])
            parts.append((prompts, array[:, r * s :]))
        (prompt_keys, image_keys), (prompt_values, image_values) = parts
        return LayerMemory(prompt_keys, prompt_values, image_keys, image_values)

    def __call__(
        self, x: jax.Array, memory: LayerMemory, prompt_mask: jax.Array, image_mask: jax.Array, train: bool = False
    ) -> jax.Array:
        """Teacher-forced: x [B, R, T, D] -> [B, R, T, D]; position t sees positions up to t."""
        b, r, t, d = x.shape
        folded = self.norm_self(x).reshape(b * r, t, d)
        causal = jnp.tril(jnp.ones((t, t), bool))[None, None]
        x = x + self._drop(self.self_attention(folded, mask=causal).reshape(x.shape), train)
        return self._cross_and_mlp(x, memory, prompt_mask, image_mask, train)

    def step(
        self, x: jax.Array, memory: Memory, layer: int, cache: Cache, position: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """One token: x [B, R, W, D]. Returns x and this layer's updated cache keys and values."""
        y = self.norm_self(x)[..., None, :]
        attention = self.self_attention
        key, value = attention.keys_values(y)  # [B, R, W, 1, N, H]
        keys = jax.lax.dynamic_update_slice_in_dim(cache.keys[layer], key, position, axis=3)
        values = jax.lax.dynamic_update_slice_in_dim(cache.values[layer], value, position, axis=3)
        written = (jnp.arange(keys.shape[3]) <= position)[None, None]
        out = attend(attention.query(y), keys, values, written)
        x = x + attention.out(out)[..., 0, :]
        x = self._cross_and_mlp(x, memory.layers[layer], memory.prompt_mask, memory.image_mask, False)
        return x, keys, values

    def _cross_and_mlp(
        self, x: jax.Array, memory: LayerMemory, prompt_mask: jax.Array, image_mask: jax.Array, train: bool
    ) -> jax.Array:
        """x [B, R, Q, D], where Q counts target positions or beams."""
        query = self.cross_attention.query(self.norm_cross(x))
        prompt = (memory.prompt_keys, memory.prompt_values)
        image = (memory.image_keys, memory.image_values)
        out = attend_to_both(query, prompt, prompt_mask, image, image_mask)
        x = x + self._drop(self.cross_attention.out(out), train)
        return constrain_batch(x + self._drop(self.mlp(self.norm_mlp(x)), train))

    def _drop(self, x: jax.Array, train: bool) -> jax.Array:
        return self.drop(x, deterministic=not train or self.dropout == 0.0)


class Decoder(nn.Module):
    """Position embedding, layers, final norm. Tokens come in embedded and leave as hidden states: the head is tied."""

    config: DecoderConfig
    width: int
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0
    remat: str = ""
    attention: str = "xla"

    def setup(self) -> None:
        c = self.config
        init = initializers.weights(self.width)
        self.position_embedding = self.param("position_embedding", init, (c.positions, self.width))
        layer = recomputed(DecoderLayer, self.remat, static_argnums=(5,)) if self.remat else DecoderLayer
        self.layers = [
            layer(self.width, c.heads, c.mlp, self.dtype, self.dropout, self.attention, name=f"layer_{i}")
            for i in range(c.layers)
        ]
        self.norm = layer_norm(PRE_NORM_EPSILON, self.dtype)
        self.embedding_dropout = nn.Dropout(self.dropout)

    def project(self, prompts: jax.Array, image: jax.Array) -> tuple[LayerMemory, ...]:
        """Prompts [B, R, S, D] and image [B, P, D] -> what each layer attends to.

        Side by side, and for all layers the same: on a mesh what is sent for them is sent once.
        """
        b, r, s, d = prompts.shape
        memory = tensor_copies(jnp.concatenate([prompts.reshape(b, r * s, d), image], axis=1))
        return tuple(layer.project(memory, r, s) for layer in self.layers)

    def __call__(self, x: jax.Array, memory: Memory, *, train: bool = False) -> jax.Array:
        """Word embeddings of the shifted targets [B, R, T, D] -> hidden states [B, R, T, D]."""
        x = x + self.position_embedding[: x.shape[2]].astype(self.dtype)
        x = self.embedding_dropout(x, deterministic=not train or self.dropout == 0.0)
        for layer, layer_memory in zip(self.layers, memory.layers, strict=True):
            x = layer(x, layer_memory, memory.prompt_mask, memory.image_mask, train)
        return self.norm(x)

    def step(self, x: jax.Array, memory: Memory, cache: Cache, position: jax.Array) -> tuple[jax.Array, Cache]:
        """Word embeddings of the tokens at `position` [B, R, W, D] -> hidden states [B, R, W, D], updated cache."""
        x = x + jax.lax.dynamic_index_in_dim(self.position_embedding, position, keepdims=False).astype(self.dtype)
        keys, values = [], []
        for i, layer in enumerate(self.layers):
            x, key, value = layer.step(x, memory, i, cache, position)
            keys.append(key)
            values.append(value)
        return self.norm(x), Cache(tuple(keys), tuple(values))
