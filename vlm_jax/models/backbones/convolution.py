"""What convolutional networks are built of: convolutions without bias, and batch normalisation as torch defines it.

The running statistics are parameters named `running_mean` and `running_variance`, so that checkpoints, shardings and
exports hold them like all else; gradients do not reach them. In training a norm uses its batch's statistics and leaves
the updated running ones in the collection `batch_stats`, from which training.step writes them back.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.models import initializers

STATISTICS = "batch_stats"
"""The collection that holds updated running statistics after a pass in training, at the paths of the parameters."""
FROZEN = "frozen"
"""The collection that names norms, by an entry at `running_mean`, which act in training as they do in evaluation."""

TORCH_EPSILON, TORCH_MOMENTUM = 1e-5, 0.1

Padding = str | int


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) over all axes but the last, as torch's BatchNorm2d.

    The batch is normalised by its biased variance, while the running variance takes the unbiased one. Over a sharded
    batch the statistics are those of the whole batch, because the program is one.

    Attributes:
      epsilon: added to the variance.
      momentum: share of the batch in the running statistics (torch's meaning; Flax's is its complement).
    """

    epsilon: float = TORCH_EPSILON
    momentum: float = TORCH_MOMENTUM
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """x [B, ..., D] -> the same, computed in float32. Rows where mask bool[B] is False count in no statistic."""
        width = x.shape[-1:]
        scale = self.param("scale", initializers.ones, width)
        bias = self.param("bias", initializers.zeros, width)
        mean = jax.lax.stop_gradient(self.param("running_mean", initializers.zeros, width))
        variance = jax.lax.stop_gradient(self.param("running_variance", initializers.ones, width))
        x32 = x.astype(jnp.float32)
        if train and not self.has_variable(FROZEN, "running_mean"):
            mean, variance = self._of_batch(x32, mask, mean, variance)
        y = (x32 - mean) * (jax.lax.rsqrt(variance + self.epsilon) * scale) + bias
        return y.astype(self.dtype)

    def _of_batch(
        self, x: jax.Array, mask: jax.Array | None, old_mean: jax.Array, old_variance: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and biased variance of a batch; the running statistics go into the collection."""
        axes = tuple(range(x.ndim - 1))
        weight = jnp.ones((x.shape[0],)) if mask is None else mask.astype(jnp.float32)
        weight = weight.reshape((-1,) + (1,) * (x.ndim - 1))
        count = weight.sum() * (x[0].size // x.shape[-1])
        mean = (x * weight).sum(axes) / jnp.maximum(count, 1.0)
        variance = (jnp.square(x - mean) * weight).sum(axes) / jnp.maximum(count, 1.0)
        if self.is_mutable_collection(STATISTICS):
            # A batch of one value, or of none, says nothing of the spread: the running statistics stand.
            share = jnp.where(count > 1.0, self.momentum, 0.0)
            unbiased = variance * count / jnp.maximum(count - 1.0, 1.0)
            self.put_variable(STATISTICS, "running_mean", jax.lax.stop_gradient(old_mean + share * (mean - old_mean)))
            new = old_variance + share * (unbiased - old_variance)
            self.put_variable(STATISTICS, "running_variance", jax.lax.stop_gradient(new))
        # A batch without any image has no statistics. By the zeros in their place every norm would multiply by 316, and
        # what comes out, though masked later, would be an infinity times zero in the gradient.
        return jnp.where(count > 0, mean, old_mean), jnp.where(count > 0, variance, old_variance)


def convolution(
    width: int, kernel: int, stride: int, dtype: jnp.dtype, *, name: str, padding: Padding = "torch", groups: int = 1
) -> nn.Conv:
    """A convolution without bias; kernel f32[kernel, kernel, D_in / groups, width], He-initialised by its outputs.

    `padding` torch puts (kernel - 1) / 2 on every side, SAME is TensorFlow's (more at the end where it is odd).
    """
    both = ((kernel - 1) // 2, (kernel - 1) // 2)
    # He et al. 2015 as torch and TensorFlow write it: deviation sqrt(2 / (kernel area * outputs of a group)).
    init = jax.nn.initializers.normal((2.0 / (kernel * kernel * width / groups)) ** 0.5)
    return nn.Conv(
        width,
        (kernel, kernel),
        strides=(stride, stride),
        padding=[both, both] if padding == "torch" else padding,
        feature_group_count=groups,
        use_bias=False,
        dtype=dtype,
        kernel_init=init,
        name=name,
    )
