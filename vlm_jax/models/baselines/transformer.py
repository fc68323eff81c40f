"""The encoder-decoder transformer of 2017 (Vaswani et al.): post-norm, ReLU, positions added to scaled words.

KNOWN of the baseline: a transformer, trained with Adam and label smoothing (Bieck et al. 2020). OURS: sizes, sinusoidal
positions (learned ones on request), one table of words for encoder, decoder and output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vlm_jax.config.schema import Seq2SeqConfig
from vlm_jax.models import initializers
from vlm_jax.models.attention import Attention, attend
from vlm_jax.models.layers import Mlp, layer_norm
from vlm_jax.models.state import Cache
from vlm_jax.parallel.partition import constrain_batch

EPSILON = 1e-5
"""Of the norms, torch's."""

KeysValues = tuple[jax.Array, jax.Array]


def sinusoids(length: int, width: int) -> np.ndarray:
    """f32[length, width]: sines at even and cosines at odd places (Vaswani et al. 2017, section 3.5)."""
    rates = np.exp(np.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = np.arange(length)[:, None] * rates
    out = np.zeros((length, width), np.float32)
    out[:, 0::2] = np.sin(angles)
    out[:, 1::2] = np.cos(angles)[:, : width // 2]
    return out


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TransformerMemory:
    """Encoded prompts: of each decoder layer keys and values [B, R, S, N, H], and the mask bool[B, R, S]."""

    landmark_logits: None
    layers: tuple[KeysValues, ...]
    mask: jax.Array


class EncoderLayer(nn.Module):
    """Self-attention and MLP; the norm follows each residual sum."""

    config: Seq2SeqConfig
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> jax.Array:
        """x [..., S, D]; mask bool[..., S]."""
        c = self.config
        drop = nn.Dropout(self.dropout, deterministic=not train or self.dropout == 0.0)
        attention = Attention(c.width, c.heads, self.dtype, name="attention")
        x = layer_norm(EPSILON, self.dtype, "norm_1")(x + drop(attention(x, mask=mask[..., None, None, :])))
        x = layer_norm(EPSILON, self.dtype, "norm_2")(x + drop(Mlp(c.width, c.mlp, self.dtype, nn.relu, name="mlp")(x)))
        return constrain_batch(x)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the prompt, MLP; `step` is the same from a cache."""

    config: Seq2SeqConfig
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0

    def setup(self) -> None:
        c = self.config
        self.self_attention = Attention(c.width, c.heads, self.dtype)
        self.cross_attention = Attention(c.width, c.heads, self.dtype)
        self.mlp = Mlp(c.width, c.mlp, self.dtype, nn.relu)
        self.norm_self = layer_norm(EPSILON, self.dtype)
        self.norm_cross = layer_norm(EPSILON, self.dtype)
        self.norm_mlp = layer_norm(EPSILON, self.dtype)
        self.drop = nn.Dropout(self.dropout)

    def project(self, prompts: jax.Array) -> KeysValues:
        """Encoded prompts [B, R, S, D] as keys and values."""
        return self.cross_attention.keys_values(prompts)

    def __call__(self, x: jax.Array, memory: KeysValues, mask: jax.Array, train: bool = False) -> jax.Array:
        """x [B, R, T, D]; mask bool[B, R, S] of the prompts."""
        t = x.shape[-2]
        causal = jnp.tril(jnp.ones((t, t), bool))[None]
        x = self.norm_self(x + self._drop(self.self_attention(x, mask=causal), train))
        return self._cross_and_mlp(x, memory, mask, train)

    def step(
        self, x: jax.Array, memory: KeysValues, mask: jax.Array, cache: KeysValues, position: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """x [B, R, W, D] at `position` -> x and the cache's keys and values [B, R, W, L, N, H] with it written."""
        attention, y = self.self_attention, x[..., None, :]
        new = attention.keys_values(y)
        keys, values = (
            jax.lax.dynamic_update_slice_in_dim(old, entry, position, axis=3)
            for old, entry in zip(cache, new, strict=True)
        )
        written = (jnp.arange(keys.shape[3]) <= position)[None, None]
        out = attention.out(attend(attention.query(y), keys, values, written))[..., 0, :]
        return self._cross_and_mlp(self.norm_self(x + out), memory, mask, False), keys, values

    def _cross_and_mlp(self, x: jax.Array, memory: KeysValues, mask: jax.Array, train: bool) -> jax.Array:
        """x [B, R, Q, D], where Q counts target positions or hypotheses."""
        cross = self.cross_attention
        out = cross.out(attend(cross.query(x), *memory, mask[:, :, None, None, :]))
        x = self.norm_cross(x + self._drop(out, train))
        return constrain_batch(self.norm_mlp(x + self._drop(self.mlp(x), train)))

    def _drop(self, x: jax.Array, train: bool) -> jax.Array:
        return self.drop(x, deterministic=not train or self.dropout == 0.0)


class Transformer(nn.Module):
    """The network between embedded words and hidden states; see `seq2seq.Seq2Seq` for words and tasks.

    Attributes:
      positions: rows of the position table, at least the longest prompt and target.
    """

    config: Seq2SeqConfig
    positions: int
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0

    def setup(self) -> None:
        c = self.config
        if c.positions == "learned":
            init = initializers.weights(c.width)
            self.position_embedding = self.param("position_embedding", init, (self.positions, c.width))
        else:
            self.position_embedding = jnp.asarray(sinusoids(self.positions, c.width))
        options = (c, self.dtype, self.dropout)
        self.encoders = [EncoderLayer(*options, name=f"encoder_{i}") for i in range(c.layers)]
        self.decoders = [DecoderLayer(*options, name=f"decoder_{i}") for i in range(c.layers)]
        self.drop = nn.Dropout(self.dropout)

    def encode(self, x: jax.Array, mask: jax.Array, *, train: bool = False) -> TransformerMemory:
        """Embedded prompts [B, R, S, D] and their mask bool[B, R, S]."""
        x = self._place(x, self.position_embedding[: x.shape[-2]], train)
        for layer in self.encoders:
            x = layer(x, mask, train)
        return TransformerMemory(None, tuple(layer.project(x) for layer in self.decoders), mask)

    def __call__(self, x: jax.Array, memory: TransformerMemory, *, train: bool = False) -> jax.Array:
        """Embedded targets [B, R, T, D] -> hidden states [B, R, T, D]."""
        x = self._place(x, self.position_embedding[: x.shape[-2]], train)
        for layer, keys_values in zip(self.decoders, memory.layers, strict=True):
            x = layer(x, keys_values, memory.mask, train)
        return x

    def step(
        self, x: jax.Array, memory: TransformerMemory, cache: Cache, position: jax.Array
    ) -> tuple[jax.Array, Cache]:
        """One embedded word of each hypothesis [B, R, W, D] -> [B, R, W, D] and the cache with it written."""
        place = jax.lax.dynamic_index_in_dim(self.position_embedding, position, keepdims=False)
        x, keys, values = self._place(x, place, False), [], []
        for i, layer in enumerate(self.decoders):
            x, key, value = layer.step(x, memory.layers[i], memory.mask, (cache.keys[i], cache.values[i]), position)
            keys.append(key)
            values.append(value)
        return x, Cache(tuple(keys), tuple(values))

    def _place(self, x: jax.Array, positions: jax.Array, train: bool) -> jax.Array:
        """Words times sqrt(D), plus positions (Vaswani et al. 2017, sections 3.4 and 3.5)."""
        x = x * math.sqrt(self.config.width) + positions.astype(self.dtype)
        return self.drop(x, deterministic=not train or self.dropout == 0.0)


def transformer_cache(memory: TransformerMemory, width: int, length: int) -> Cache:
    """An empty cache of `width` hypotheses of up to `length` tokens."""

    def empty(keys: jax.Array) -> jax.Array:
        b, r, _, n, h = keys.shape
        return jnp.zeros((b, r, width, length, n, h), keys.dtype)

    return Cache(tuple(empty(k) for k, _ in memory.layers), tuple(empty(v) for _, v in memory.layers))
