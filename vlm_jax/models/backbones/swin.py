"""Swin-T (Liu et al. 2021): attention inside windows, shifted every second block, with a relative position bias."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vlm_jax.config.schema import BackboneConfig
from vlm_jax.errors import UserError
from vlm_jax.models import initializers
from vlm_jax.models.attention import heads_projection
from vlm_jax.models.image_encoder import normalise, patches
from vlm_jax.models.layers import Mlp, drop_branches, layer_norm

PATCH, WIDTH, MLP_RATIO = 4, 96, 4
DEPTHS, HEADS = (2, 2, 6, 2), (3, 6, 12, 24)
EPSILON = 1e-5
APART = -100.0
"""What the published code adds to the scores of two places that the cyclic shift brought together."""


def relative_index(side: int, window: int) -> np.ndarray:
    """int[side^2, side^2]: for each pair of places in a window of `side`, its row in a table of (2 window - 1)^2 rows.

    `side` is below `window` where the map is smaller than a window: the table is the same for every image size.
    """
    at = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij")).reshape(2, -1)
    rows, columns = at[:, :, None] - at[:, None, :] + window - 1
    return rows * (2 * window - 1) + columns


def shift_mask(height: int, width: int, window: int, shift: int) -> np.ndarray:
    """f32[number of windows, w^2, w^2]: 0, or -100 between places that are not neighbours before the shift."""

    def region(size: int) -> np.ndarray:
        at = np.arange(size)
        return (at >= size - window).astype(int) + (at >= size - shift)

    regions = region(height)[:, None] * 3 + region(width)[None, :]
    of_windows = _windows(regions[None, :, :, None], window)[:, :, 0]
    return np.where(of_windows[:, :, None] == of_windows[:, None, :], 0.0, APART).astype(np.float32)


def _windows(x, window: int):
    """[B, H, W, D] -> [B * number of windows, w^2, D], row by row."""
    b, h, w, d = x.shape
    x = x.reshape(b, h // window, window, w // window, window, d).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, window * window, d)


def _unwindowed(x: jax.Array, window: int, height: int, width: int) -> jax.Array:
    """The inverse of `_windows`."""
    d = x.shape[-1]
    x = x.reshape(-1, height // window, width // window, window, window, d).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, height, width, d)


class WindowAttention(nn.Module):
    """Self-attention over the places of each window, with a learned bias for each head and relative position.

    Attributes:
      window: side of a full window, which sizes the bias table.
    """

    width: int
    heads: int
    window: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: np.ndarray | None) -> jax.Array:
        """x [windows, side^2, D]; mask f32[windows an image, side^2, side^2] is added to the scores -> x's shape."""
        side = math.isqrt(x.shape[1])
        query, key, value = (
            heads_projection(self.width, self.heads, self.dtype, name)(x) for name in ("query", "key", "value")
        )
        init = initializers.weights(self.width)
        table = self.param("relative_position_bias", init, ((2 * self.window - 1) ** 2, self.heads))
        query = query * (self.width // self.heads) ** -0.5
        scores = jnp.einsum("wqnh,wlnh->wnql", query, key, preferred_element_type=jnp.float32)
        scores = scores + table[relative_index(side, self.window)].transpose(2, 0, 1)
        if mask is not None:
            of_images = scores.reshape(-1, mask.shape[0], *scores.shape[1:])
            scores = (of_images + mask[None, :, None]).reshape(scores.shape)
        weights = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        out = jnp.einsum("wnql,wlnh->wqnh", weights, value)
        return nn.DenseGeneral(self.width, axis=(-2, -1), dtype=self.dtype, kernel_init=init, name="out")(out)


class SwinBlock(nn.Module):
    """Pre-norm block. A map no larger than the window is one window, and nothing is shifted."""

    heads: int
    window: int
    shifted: bool
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[B, H, W, D] -> the same shape. A map that windows do not tile is padded with zeros after the norm."""
        _, h, w, d = x.shape
        window = min(self.window, h, w)
        shift = window // 2 if self.shifted and min(h, w) > self.window else 0
        pad_h, pad_w = -h % window, -w % window
        y = layer_norm(EPSILON, self.dtype, name="norm_1")(x)
        y = jnp.pad(y, ((0, 0), (0, pad_h), (0, pad_w), (0, 0)))
        y = jnp.roll(y, (-shift, -shift), axis=(1, 2)) if shift else y
        mask = shift_mask(h + pad_h, w + pad_w, window, shift) if shift else None
        y = WindowAttention(d, self.heads, self.window, self.dtype, name="attention")(_windows(y, window), mask)
        y = _unwindowed(y, window, h + pad_h, w + pad_w)
        y = jnp.roll(y, (shift, shift), axis=(1, 2)) if shift else y
        x = x + self._drop(y[:, :h, :w], train)
        y = Mlp(d, MLP_RATIO * d, self.dtype, name="mlp")(layer_norm(EPSILON, self.dtype, name="norm_2")(x))
        return x + self._drop(y, train)

    def _drop(self, x: jax.Array, train: bool) -> jax.Array:
        return drop_branches(self.make_rng("dropout"), x, self.drop_path) if train and self.drop_path > 0.0 else x


class PatchMerging(nn.Module):
    """Four neighbours side by side, a norm, and a linear layer to twice the width."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, D] -> [B, H / 2, W / 2, 2 D]; an odd side is padded with zeros."""
        b, h, w, d = x.shape
        x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
        # The published order: down before across.
        x = x.reshape(b, (h + 1) // 2, 2, (w + 1) // 2, 2, d).transpose(0, 1, 3, 4, 2, 5)
        x = layer_norm(EPSILON, self.dtype, name="norm")(x.reshape(b, (h + 1) // 2, (w + 1) // 2, 4 * d))
        init = initializers.weights(4 * d)
        return nn.Dense(2 * d, use_bias=False, dtype=self.dtype, kernel_init=init, name="reduction")(x)


class Swin(nn.Module):
    """Patch embedding, four stages with merging between them, final norm."""

    config: BackboneConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """uint8 (or float in 0-255) [B, H, W, 3] -> tokens [B, H / 32 * W / 32, D], row by row.

        Args:
          mask: as the other backbones take it; there is no batch statistic here, so it changes nothing.
        """
        del mask
        c = self.config
        width = swin_width(c)
        if image.shape[1] % PATCH or image.shape[2] % PATCH:
            raise UserError(f"config.data.image_size is {image.shape[1]}; swin_t expects a multiple of {PATCH}")
        x = patches(normalise(image, c, self.dtype), PATCH)
        x = nn.Dense(width, dtype=self.dtype, kernel_init=initializers.weights(width), name="patch_embedding")(x)
        x = layer_norm(EPSILON, self.dtype, name="embedding_norm")(x)
        x = x.reshape(x.shape[0], image.shape[1] // PATCH, image.shape[2] // PATCH, width)
        depths = c.depths or DEPTHS
        done, total = 0, sum(depths)
        for stage, (depth, heads) in enumerate(zip(depths, HEADS, strict=True)):
            for i in range(depth):
                rate = c.drop_path * done / max(total - 1, 1)
                block = SwinBlock(heads, c.window, i % 2 == 1, rate, self.dtype, name=f"stage_{stage}_block_{i}")
                x = block(x, train)
                done += 1
            if stage < len(depths) - 1:
                x = PatchMerging(self.dtype, name=f"merge_{stage}")(x)
        x = layer_norm(EPSILON, self.dtype, name="norm")(x)
        return x.reshape(x.shape[0], -1, x.shape[-1])


def swin_width(config: BackboneConfig) -> int:
    """Channels of the first stage.

    Raises:
      UserError: its three heads do not divide them.
    """
    width = round(WIDTH * config.width_factor)
    if width < HEADS[0] or width % HEADS[0]:
        raise UserError(
            f"config.model.backbone.width_factor is {config.width_factor}, which makes swin_t {width} channels wide; "
            f"expected a multiple of {HEADS[0]}, its heads: take 0.25, 0.5 or 1, say"
        )
    return width
