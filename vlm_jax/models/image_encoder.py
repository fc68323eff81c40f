"""Vision transformer (Dosovitskiy et al. 2021): pre-norm, class token, learned positions, final norm."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import BackboneConfig, ImageEncoderConfig
from vlm_jax.models import initializers
from vlm_jax.models.layers import Stack, layer_norm
from vlm_jax.models.positions import sincos_2d
from vlm_jax.models.products import dot_general


def normalise(image: jax.Array, config: ImageEncoderConfig | BackboneConfig, dtype: jnp.dtype) -> jax.Array:
    """uint8 or float [..., 3] in 0-255 -> (image / 255 - mean) / std, computed in float32."""
    mean, std = jnp.asarray(config.mean, jnp.float32), jnp.asarray(config.std, jnp.float32)
    return ((image.astype(jnp.float32) / 255.0 - mean) / std).astype(dtype)


def patches(image: jax.Array, patch: int) -> jax.Array:
    """[B, H, W, 3] -> [B, H/patch * W/patch, patch * patch * 3], row by row; each patch as (row, column, channel)."""
    b, h, w, c = image.shape
    x = image.reshape(b, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, (h // patch) * (w // patch), patch * patch * c)


class ImageEncoder(nn.Module):
    """ViT without a pooling head. Patches are cut by a reshape and one product, which equals the usual convolution.

    Attributes:
      fixed_positions: 2-D sines and cosines that stay as they are (MAE's); else they start at random and are learned.
    """

    config: ImageEncoderConfig
    image_size: int
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0
    remat: str = ""
    scan: bool = False
    attention: str = "xla"
    fixed_positions: bool = False

    @nn.compact
    def __call__(self, image: jax.Array, kept: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """uint8 (or float in 0-255) [B, H, W, 3] -> tokens [B, 1 + (H / patch)^2, D]; token 0 is the class token.

        With `stem` backbone the argument is a network's last map, [B, H / patch, W / patch, C]: the hybrid of
        Dosovitskiy et al.

        `kept`, int32[B, M]: only these patches are looked at, and [B, 1 + M, D] comes out, in their order.
        """
        c = self.config
        init = initializers.weights(c.width)
        if c.stem == "backbone":
            x = image.reshape(image.shape[0], -1, image.shape[-1])
        else:
            x = patches(normalise(image, c, self.dtype), c.patch)
        if kept is not None:
            x = jnp.take_along_axis(x, kept[..., None], axis=1)
        x = nn.Dense(c.width, dtype=self.dtype, kernel_init=init, dot_general=dot_general, name="patch_embedding")(x)
        class_token = self.param("class_token", init, (c.width,)).astype(self.dtype)
        positions = self._positions(init).astype(self.dtype)
        x = x + (positions[1:] if kept is None else positions[1:][kept])
        first = jnp.broadcast_to(class_token + positions[0], (x.shape[0], 1, c.width))
        x = jnp.concatenate([first, x], axis=1)
        options = {
            "width": c.width,
            "heads": c.heads,
            "mlp": c.mlp,
            "pre_norm": True,
            "epsilon": c.epsilon,
            "dtype": self.dtype,
            "dropout": self.dropout,
            "attention": self.attention,
        }
        x = Stack(c.layers, options, c.drop_path, self.remat, self.scan, name="blocks")(x, train=train)
        return layer_norm(c.epsilon, self.dtype, name="norm")(x)

    def _positions(self, init: Any) -> jax.Array:
        """f32[1 + (H / patch)^2, D]; fixed ones are a parameter too, so that fine-tuning starts from them."""
        width, side = self.config.width, self.image_size // self.config.patch
        if not self.fixed_positions:
            return self.param("position_embedding", init, (1 + side * side, width))
        fixed = self.param("position_embedding", lambda _: jnp.asarray(sincos_2d(width, side)))
        return jax.lax.stop_gradient(fixed)
