"""Where the modalities meet: one cross-attention sublayer a direction, pre-norm on both sides, with a residual."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.models.attention import Attention
from vlm_jax.models.layers import PRE_NORM_EPSILON, layer_norm


class CrossSublayer(nn.Module):
    """x + Attention(norm(x), norm(memory)). The two widths may differ: keys and values are projected to x's."""

    width: int
    heads: int
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0
    attention: str = "xla"

    @nn.compact
    def __call__(self, x: jax.Array, memory: jax.Array, mask: jax.Array, *, train: bool = False) -> jax.Array:
        """x [B, Q, D], memory [B, L, D_memory], mask bool[B, L] -> [B, Q, D]."""
        query = layer_norm(PRE_NORM_EPSILON, self.dtype, name="norm_query")(x)
        memory = layer_norm(PRE_NORM_EPSILON, self.dtype, name="norm_memory")(memory)
        attention = Attention(self.width, self.heads, self.dtype, self.attention, name="attention")
        out = attention(query, memory, mask[:, None, None, :])
        return x + nn.Dropout(self.dropout)(out, deterministic=not train or self.dropout == 0.0)


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """f32[..., D]: mean of x [..., L, D] over the L where mask [..., L] is True; zeros where none is."""
    kept = mask[..., None].astype(jnp.float32)
    return (x.astype(jnp.float32) * kept).sum(-2) / jnp.maximum(kept.sum(-2), 1.0)
