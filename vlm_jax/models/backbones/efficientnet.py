"""EfficientNet-Lite0 (Tan and Le 2019; the Lite variant of TensorFlow's model garden).

Lite: ReLU6 for swish, no squeeze-and-excitation, and a stem and head that keep their width when the rest is scaled.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import BackboneConfig
from vlm_jax.models.backbones.convolution import BatchNorm, convolution
from vlm_jax.models.image_encoder import normalise
from vlm_jax.models.layers import drop_branches

STEM, HEAD = 32, 1280
EPSILON, MOMENTUM = 1e-3, 0.01  # TensorFlow's 0.99, in torch's meaning
DIVISOR = 8
STAGES = (
    # blocks, kernel, stride of the first block, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def scaled(channels: int, factor: float) -> int:
    """Channels times the factor, to a multiple of 8 and not below nine tenths of it (Tan and Le 2019's code)."""
    wanted = channels * factor
    rounded = max(DIVISOR, int(wanted + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded + DIVISOR if rounded < 0.9 * wanted else rounded


class MbConv(nn.Module):
    """Inverted bottleneck (Sandler et al. 2018): 1 x 1 to `expansion` times the channels, depthwise, 1 x 1 down."""

    width: int
    kernel: int
    stride: int
    expansion: int
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """x [B, H, W, D] -> [B, H / stride, W / stride, width], rounded up."""
        inner = x.shape[-1] * self.expansion
        y = x
        if self.expansion > 1:
            y = convolution(inner, 1, 1, self.dtype, name="conv_expand")(y)
            y = nn.relu6(_norm(self.dtype, "norm_expand")(y, train, mask))
        depthwise = convolution(
            inner, self.kernel, self.stride, self.dtype, name="conv_depthwise", padding="SAME", groups=inner
        )
        y = nn.relu6(_norm(self.dtype, "norm_depthwise")(depthwise(y), train, mask))
        y = convolution(self.width, 1, 1, self.dtype, name="conv_project")(y)
        y = _norm(self.dtype, "norm_project")(y, train, mask)
        if self.stride > 1 or x.shape[-1] != self.width:
            return y
        if train and self.drop_path > 0.0:
            y = drop_branches(self.make_rng("dropout"), y, self.drop_path)
        return x + y


class EfficientNetLite(nn.Module):
    """Stem, seven stages of inverted bottlenecks and the 1 x 1 head; no pooling and no classifier.

    Attributes:
      finer: hand out the maps at a quarter and a half of the final map's stride, too.
    """

    config: BackboneConfig
    dtype: jnp.dtype = jnp.float32
    finer: bool = False

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False, mask: jax.Array | None = None) -> Any:
        """uint8 (or float in 0-255) [B, H, W, 3] -> the final map [B, H / 32, W / 32, 1280], rounded up.

        With `finer` a tuple: maps of stride 8, 16 and 32, each as it is before the next halving.

        Args:
          mask: bool[B]; False = no image there: that row counts in no batch statistic.
        """
        c = self.config
        depths = c.depths or tuple(stage[0] for stage in STAGES)
        x = normalise(image, c, self.dtype)
        x = convolution(STEM, 3, 2, self.dtype, name="conv_stem", padding="SAME")(x)
        x = nn.relu6(_norm(self.dtype, "norm_stem")(x, train, mask))
        done, total, maps = 0, sum(depths), []
        for depth, (_, kernel, stride, expansion, channels) in zip(depths, STAGES, strict=True):
            for i in range(depth):
                # The rate grows with the block's index over their number, as in TensorFlow's drop-connect.
                rate = c.drop_path * done / total
                first = stride if i == 0 else 1
                width = scaled(channels, c.width_factor)
                maps += [x] if first > 1 else []
                x = MbConv(width, kernel, first, expansion, rate, self.dtype, name=f"block_{done}")(x, train, mask)
                done += 1
        x = convolution(HEAD, 1, 1, self.dtype, name="conv_head")(x)
        x = nn.relu6(_norm(self.dtype, "norm_head")(x, train, mask))
        return (*maps[-2:], x) if self.finer else x


def _norm(dtype: jnp.dtype, name: str) -> BatchNorm:
    return BatchNorm(EPSILON, MOMENTUM, dtype, name=name)
