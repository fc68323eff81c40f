"""ResNet (He et al. 2016) as torchvision and Hugging Face have it: version 1.5, the stride in the 3 x 3 convolution."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import BackboneConfig
from vlm_jax.models.backbones.convolution import BatchNorm, convolution
from vlm_jax.models.image_encoder import normalise
from vlm_jax.models.layers import drop_branches

DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
STEM = 64
EXPANSION = {"resnet18": 1, "resnet50": 4}
"""Output channels of a block over its inner ones: 1 = basic block, 4 = bottleneck."""


class Block(nn.Module):
    """Basic block (two 3 x 3 convolutions) or bottleneck (1 x 1, 3 x 3, 1 x 1), with a residual.

    Attributes:
      width: inner channels.
      expansion: output channels over inner ones; more than 1 means bottleneck.
    """

    width: int
    expansion: int
    stride: int
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """x [B, H, W, D] -> [B, H / stride, W / stride, width * expansion]."""
        out = self.width * self.expansion
        kernels = ((3, self.stride), (3, 1)) if self.expansion == 1 else ((1, 1), (3, self.stride), (1, 1))
        y = x
        for i, (kernel, stride) in enumerate(kernels, start=1):
            width = out if i == len(kernels) else self.width
            y = convolution(width, kernel, stride, self.dtype, name=f"conv_{i}")(y)
            y = BatchNorm(dtype=self.dtype, name=f"norm_{i}")(y, train, mask)
            y = nn.relu(y) if i < len(kernels) else y
        if self.stride > 1 or x.shape[-1] != out:
            x = convolution(out, 1, self.stride, self.dtype, name="conv_skip")(x)
            x = BatchNorm(dtype=self.dtype, name="norm_skip")(x, train, mask)
        if train and self.drop_path > 0.0:
            y = drop_branches(self.make_rng("dropout"), y, self.drop_path)
        return nn.relu(x + y)


def max_pool(x: jax.Array) -> jax.Array:
    """[B, H, W, D] -> [B, H / 2, W / 2, D], rounded up: the maximum of 3 x 3 places, one beyond each border."""
    borders = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), borders)


class ResNet(nn.Module):
    """Stem, four stages of blocks; no pooling and no classifier.

    Attributes:
      finer: hand out the maps at a quarter and a half of the final map's stride, too.
    """

    config: BackboneConfig
    dtype: jnp.dtype = jnp.float32
    finer: bool = False

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False, mask: jax.Array | None = None) -> Any:
        """uint8 (or float in 0-255) [B, H, W, 3] -> the final map [B, H / 32, W / 32, D], rounded up.

        With `finer` a tuple: maps of stride 8, 16 and 32, each as it is before the next halving.

        Args:
          mask: bool[B]; False = no image there: that row counts in no batch statistic.
        """
        c = self.config
        expansion, stem = EXPANSION[c.name], max(1, round(STEM * c.width_factor))
        depths = c.depths or DEPTHS[c.name]
        x = normalise(image, c, self.dtype)
        x = convolution(stem, 7, 2, self.dtype, name="conv_stem")(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm_stem")(x, train, mask))
        x = max_pool(x)
        done, total, maps = 0, sum(depths), []
        for stage, depth in enumerate(depths):
            for i in range(depth):
                stride = 2 if i == 0 and stage > 0 else 1
                rate = c.drop_path * done / max(total - 1, 1)
                maps += [x] if stride > 1 else []
                block = Block(stem * 2**stage, expansion, stride, rate, self.dtype, name=f"stage_{stage}_block_{i}")
                x = block(x, train, mask)
                done += 1
        return (*maps[-2:], x) if self.finer else x
