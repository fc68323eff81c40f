"""The landmark head."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.models import initializers
from vlm_jax.models.layers import PRE_NORM_EPSILON, layer_norm


class LandmarkHead(nn.Module):
    """Norm and a linear layer over pooled features, all in float32 (EndoViT's fine-tuning head).

    Attributes:
      bias: where the linear layer's biases start.
    """

    n_landmarks: int
    bias: float = 0.0

    @nn.compact
    def __call__(self, pooled: jax.Array) -> jax.Array:
        """[B, D] -> logits f32[B, C]."""
        x = layer_norm(PRE_NORM_EPSILON, jnp.float32, name="norm")(pooled.astype(jnp.float32))
        init = initializers.weights(pooled.shape[-1])
        bias = initializers.constant(self.bias)
        return nn.Dense(self.n_landmarks, dtype=jnp.float32, kernel_init=init, bias_init=bias, name="linear")(x)
