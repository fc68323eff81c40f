"""The landmark head, and its answer as tokens for the decoder."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
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


class LandmarkTokens(nn.Module):
    """Predicted landmarks as C further tokens of a prompt: each between its embeddings of absent and present.

    The probabilities carry no gradient: what the decoder would like to read does not change what is detected.
    """

    n_landmarks: int
    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, prompts: jax.Array, mask: jax.Array, logits: jax.Array, told: np.ndarray
    ) -> tuple[jax.Array, jax.Array]:
        """Appends the tokens.

        Args:
          prompts: [B, R, S, D]. mask: bool[B, R, S].
          logits: f32[B, C].
          told: bool[R]; the other rows get the tokens too, unseen.

        Returns:
          [B, R, S + C, D] and bool[B, R, S + C].
        """
        init = initializers.weights(self.width)
        embedding = self.param("embedding", init, (2, self.n_landmarks, self.width))
        present = jax.nn.sigmoid(jax.lax.stop_gradient(logits).astype(jnp.float32))[..., None]
        tokens = (present * embedding[1] + (1 - present) * embedding[0]).astype(prompts.dtype)
        shape = (*prompts.shape[:2], self.n_landmarks)
        seen = jnp.broadcast_to(jnp.asarray(told)[None, :, None], shape)
        tokens = jnp.broadcast_to(tokens[:, None], (*shape, self.width))
        return jnp.concatenate([prompts, tokens], axis=2), jnp.concatenate([mask, seen], axis=2)
