"""Vision transformer (Dosovitskiy et al. 2021): pre-norm, class token, learned positions, final norm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import ImageEncoderConfig
from vlm_jax.models import initializers
from vlm_jax.models.layers import PRE_NORM_EPSILON, Stack, layer_norm


def normalise(image: jax.Array, config: ImageEncoderConfig, dtype: jnp.dtype) -> jax.Array:
    """uint8 or float [..., 3] in 0-255 -> (image / 255 - mean) / std, computed in float32."""
    mean, std = jnp.asarray(config.mean, jnp.float32), jnp.asarray(config.std, jnp.float32)
    return ((image.astype(jnp.float32) / 255.0 - mean) / std).astype(dtype)


def patches(image: jax.Array, patch: int) -> jax.Array:
    """[B, H, W, 3] -> [B, H/patch * W/patch, patch * patch * 3], row by row; each patch as (row, column, channel)."""
    b, h, w, c = image.shape
    x = image.reshape(b, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, (h // patch) * (w // patch), patch * patch * c)


class ImageEncoder(nn.Module):
    """ViT without a pooling head. Patches are cut by a reshape and one product, which equals the usual convolution."""

    config: ImageEncoderConfig
    image_size: int
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0
    remat: bool = False
    scan: bool = False
    attention: str = "xla"

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
        """uint8 (or float in 0-255) [B, H, W, 3] -> tokens [B, 1 + (H / patch)^2, D]; token 0 is the class token."""
        c = self.config
        init = initializers.weights(c.width)
        n_tokens = 1 + (self.image_size // c.patch) ** 2
        x = patches(normalise(image, c, self.dtype), c.patch)
        x = nn.Dense(c.width, dtype=self.dtype, kernel_init=init, name="patch_embedding")(x)
        class_token = self.param("class_token", init, (c.width,)).astype(self.dtype)
        x = jnp.concatenate([jnp.broadcast_to(class_token, (x.shape[0], 1, c.width)), x], axis=1)
        x = x + self.param("position_embedding", init, (n_tokens, c.width)).astype(self.dtype)
        options = {
            "width": c.width,
            "heads": c.heads,
            "mlp": c.mlp,
            "pre_norm": True,
            "epsilon": PRE_NORM_EPSILON,
            "dtype": self.dtype,
            "dropout": self.dropout,
            "attention": self.attention,
        }
        x = Stack(c.layers, options, c.drop_path, self.remat, self.scan, name="blocks")(x, train=train)
        return layer_norm(PRE_NORM_EPSILON, self.dtype, name="norm")(x)
