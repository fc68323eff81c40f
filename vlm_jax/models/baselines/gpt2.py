"""GPT-2 (Radford et al. 2019): pre-norm, causal, tanh-GELU, learned positions, language-model head tied to the words.

A sequence comes in two parts. The prefix is read once, by `__call__`, which also returns its keys and values; what
follows is read by `extend` (all tokens at once, teacher-forced) or by `step` (one token, from a cache). Both attend to
[prefix ; tokens so far] under one softmax with the same parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import GptConfig
from vlm_jax.models import initializers
from vlm_jax.models.attention import MASKED, Attention
from vlm_jax.models.layers import layer_norm, recomputed
from vlm_jax.models.products import dot_general, word_logits
from vlm_jax.models.state import Cache
from vlm_jax.parallel.partition import constrain_batch

GPT2_EPSILON = 1e-5
MLP_RATIO = 4

KeysValues = tuple[jax.Array, jax.Array]
Drop = Callable[[jax.Array], jax.Array]


def attend_dropped(query: jax.Array, memory: KeysValues, mask: jax.Array, drop: Drop) -> jax.Array:
    """Softmax attention whose weights pass through `drop`, as GPT-2 has it; softmax in float32.

    Args:
      query: [..., Q, N, H].
      memory: keys and values [..., L, N, H].
      mask: bool, broadcastable to [..., N, Q, L]; True = keep; every query must keep some key.
      drop: dropout of the weights.
    """
    scaled = query * query.shape[-1] ** -0.5
    scores = jnp.einsum("...qnh,...lnh->...nql", scaled, memory[0], preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(jnp.where(mask, scores, MASKED), axis=-1).astype(query.dtype)
    return jnp.einsum("...nql,...lnh->...qnh", drop(weights), memory[1])


def attend_after(
    query: jax.Array, prefix: KeysValues, prefix_mask: jax.Array, own: KeysValues, own_mask: jax.Array, drop: Drop
) -> jax.Array:
    """Attention to [prefix ; own] under one softmax, without a copy of the prefix for each of the W beams.

    Args:
      query: [B, R, W, Q, N, H].
      prefix: keys and values [B, R, L, N, H].
      prefix_mask: bool[B, R, L]; True = keep.
      own: keys and values [B, R, W, T, N, H].
      own_mask: bool[Q, T].
      drop: dropout of the weights.

    Returns:
      [B, R, W, Q, N, H].
    """
    scaled, f32 = query * query.shape[-1] ** -0.5, jnp.float32
    before = jnp.einsum("brwqnh,brlnh->brwnql", scaled, prefix[0], preferred_element_type=f32)
    before = jnp.where(prefix_mask[:, :, None, None, None, :], before, MASKED)
    after = jnp.einsum("brwqnh,brwtnh->brwnqt", scaled, own[0], preferred_element_type=f32)
    after = jnp.where(own_mask, after, MASKED)
    weights = drop(jax.nn.softmax(jnp.concatenate([before, after], axis=-1), axis=-1).astype(query.dtype))
    length = prefix_mask.shape[-1]
    out = jnp.einsum("brwnql,brlnh->brwqnh", weights[..., :length], prefix[1])
    return out + jnp.einsum("brwnqt,brwtnh->brwqnh", weights[..., length:], own[1])


class GptMlp(nn.Module):
    """Two linear layers with GPT-2's GELU, 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = initializers.weights(self.width)
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=init, dot_general=dot_general)
        x = dense(MLP_RATIO * self.width, name="up")(x)
        return dense(self.width, name="down")(jax.nn.gelu(x, approximate=True))


class GptBlock(nn.Module):
    """One layer; `dropout` is of attention weights and of each sublayer's output, as in the published model."""

    width: int
    heads: int
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0

    def setup(self) -> None:
        self.norm_1 = layer_norm(GPT2_EPSILON, self.dtype)
        self.norm_2 = layer_norm(GPT2_EPSILON, self.dtype)
        self.attention = Attention(self.width, self.heads, self.dtype)
        self.mlp = GptMlp(self.width, self.dtype)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, KeysValues]:
        """x [B, L, D] and mask bool[B, 1, L, L] -> x and the layer's keys and values [B, L, N, H]."""
        y = self.norm_1(x)
        memory = self.attention.keys_values(y)
        out = attend_dropped(self.attention.query(y), memory, mask, self._dropper(train))
        return self._finish(x, out, train), memory

    def extend(self, x: jax.Array, prefix: KeysValues, prefix_mask: jax.Array, train: bool) -> jax.Array:
        """Teacher-forced: x [B, R, T, D] behind a prefix [B, R, L, N, H] -> [B, R, T, D]."""
        y = self.norm_1(x)[:, :, None]
        causal = jnp.tril(jnp.ones((x.shape[2], x.shape[2]), bool))
        own = self.attention.keys_values(y)
        out = attend_after(self.attention.query(y), prefix, prefix_mask, own, causal, self._dropper(train))
        return self._finish(x, out[:, :, 0], train)

    def step(
        self, x: jax.Array, prefix: KeysValues, prefix_mask: jax.Array, cache: KeysValues, position: jax.Array
    ) -> tuple[jax.Array, KeysValues]:
        """One token of W beams: x [B, R, W, D], cache [B, R, W, T, N, H] -> x and the cache with `position` written."""
        y = self.norm_1(x)[..., None, :]
        new = self.attention.keys_values(y)
        keys = jax.lax.dynamic_update_slice_in_dim(cache[0], new[0], position, axis=3)
        values = jax.lax.dynamic_update_slice_in_dim(cache[1], new[1], position, axis=3)
        written = (jnp.arange(keys.shape[3]) <= position)[None]
        query = self.attention.query(y)
        out = attend_after(query, prefix, prefix_mask, (keys, values), written, self._dropper(False))
        return self._finish(x, out[..., 0, :, :], False), (keys, values)

    def _finish(self, x: jax.Array, attended: jax.Array, train: bool) -> jax.Array:
        """Output projection and MLP with their residuals."""
        drop = self._dropper(train)
        x = x + drop(self.attention.out(attended))
        return constrain_batch(x + drop(self.mlp(self.norm_2(x))))

    def _dropper(self, train: bool) -> Drop:
        return lambda x: self.drop(x, deterministic=not train or self.dropout == 0.0)


class Gpt2(nn.Module):
    """Embeddings, blocks and final norm. Inputs come in embedded, so that a caller may mix words with other tokens.

    Attributes:
      vocab_size: rows of the word embedding, padding included.
    """

    config: GptConfig
    vocab_size: int
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0
    remat: str = ""

    def setup(self) -> None:
        c = self.config
        init = initializers.weights(c.width)
        self.word_embedding = self.param("word_embedding", init, (self.vocab_size, c.width))
        self.position_embedding = self.param("position_embedding", init, (c.positions, c.width))
        block: Any = recomputed(GptBlock, self.remat, static_argnums=(3,)) if self.remat else GptBlock
        self.blocks = [block(c.width, c.heads, self.dtype, self.dropout, name=f"layer_{i}") for i in range(c.layers)]
        self.norm = layer_norm(GPT2_EPSILON, self.dtype)
        self.embedding_dropout = nn.Dropout(self.dropout)

    # --- Embeddings and head ------------------------------------------------------------------------------------------

    def embed(self, tokens: jax.Array) -> jax.Array:
        """int32[...] -> word embeddings [..., D]."""
        return jnp.take(self.word_embedding, tokens, axis=0).astype(self.dtype)

    def place(self, x: jax.Array, positions: jax.Array, types: jax.Array | None, train: bool = False) -> jax.Array:
        """Adds positions and token types to x [..., L, D]; both int32, broadcastable to [..., L].

        Types are embedded with rows of the word embedding: GPT-2 has no table of its own for them, and Hugging Face's
        implementation takes the words'.
        """
        x = x + jnp.take(self.position_embedding, positions, axis=0).astype(self.dtype)
        x = x if types is None else x + self.embed(types)
        return self.embedding_dropout(x, deterministic=not train or self.dropout == 0.0)

    def token_logits(self, hidden: jax.Array, n_tokens: int) -> jax.Array:
        """[..., D] -> f32[..., V]; see `word_logits`."""
        return word_logits(hidden, self.word_embedding, None, n_tokens)

    # --- The three ways through the layers ----------------------------------------------------------------------------

    def __call__(
        self, x: jax.Array, mask: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, tuple[KeysValues, ...]]:
        """Embedded and placed x [B, L, D], mask bool[B, L] -> hidden states [B, L, D], keys and values of each layer.

        A masked position is no key for others; what stands there is computed all the same.
        """
        causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        keep = causal & mask[:, None, None, :]
        memory = []
        for block in self.blocks:
            x, keys_values = block(x, keep, train)
            memory.append(keys_values)
        return self.norm(x), tuple(memory)

    def extend(
        self, x: jax.Array, prefix: tuple[KeysValues, ...], prefix_mask: jax.Array, *, train: bool = False
    ) -> jax.Array:
        """What follows the prefix, all at once: x [B, R, T, D] -> hidden states [B, R, T, D]."""
        for block, keys_values in zip(self.blocks, prefix, strict=True):
            x = block.extend(x, keys_values, prefix_mask, train)
        return self.norm(x)

    def step(
        self, x: jax.Array, prefix: tuple[KeysValues, ...], prefix_mask: jax.Array, cache: Cache, position: jax.Array
    ) -> tuple[jax.Array, Cache]:
        """Token number `position` behind the prefix: x [B, R, W, D] -> hidden states [B, R, W, D], updated cache."""
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            own = (cache.keys[i], cache.values[i])
            x, (key, value) = block.step(x, prefix[i], prefix_mask, own, position)
            keys.append(key)
            values.append(value)
        return self.norm(x), Cache(tuple(keys), tuple(values))


def empty_cache(config: GptConfig, shape: tuple[int, int, int, int], dtype: Any) -> Cache:
    """Zeros for `shape` = (B, R, W, T): one pair of [B, R, W, T, N, H] a layer."""
    full = (*shape, config.heads, config.width // config.heads)
    zeros = [jnp.zeros(full, dtype) for _ in range(2 * config.layers)]
    return Cache(tuple(zeros[: config.layers]), tuple(zeros[config.layers :]))
