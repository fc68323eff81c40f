"""Where each landmark is, place by place, and what that says of whether it is in view.

In `vocalfolds` a landmark counts as visible from a hundredth of the image on (in the simulator from less). That is a
tenth of a place of a network's last map, which a mean over places hides. The head looks at finer maps, marks each
place's share of each landmark (learned from masks where the data has them, from the labels alone where not), and adds
up the area.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.models import initializers
from vlm_jax.models.backbones.convolution import convolution
from vlm_jax.models.layers import PRE_NORM_EPSILON, layer_norm

REFERENCE_AREA = 0.01
"""Share of the image at which the head votes neither for nor against a landmark, before anything is learned."""
_LEAST = 1e-3  # of the reference: an area of nothing votes with a finite weight
_FIRST_BIAS = -4.0  # of a place: 0.018, next to the reference


class RegionHead(nn.Module):
    """Projects maps to one width, adds them up on the finest grid, mixes neighbours, and answers for each place.

    The coarser maps are drawn bilinearly to the finest (Lin et al. 2017, feature pyramids, without the second pass).

    Attributes:
      n_landmarks: C.
      width: of the common map.
      dropout: probability, on the common map.
    """

    n_landmarks: int
    width: int
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], *, train: bool = False) -> jax.Array:
        """Maps [B, h, w, D] of one or more grids, the finest first -> logits f32[B, h, w, C] on the finest."""
        b, h, w, _ = maps[0].shape
        x = jnp.zeros((b, h, w, self.width), self.dtype)
        for i, found in enumerate(maps):
            found = layer_norm(PRE_NORM_EPSILON, self.dtype, name=f"norm_{i}")(found)
            found = convolution(self.width, 1, 1, self.dtype, name=f"conv_{i}")(found)
            x = x + jax.image.resize(found, x.shape, "bilinear")
        x = nn.relu(layer_norm(PRE_NORM_EPSILON, self.dtype, name="norm_sum")(x))
        x = nn.Dropout(self.dropout, deterministic=not train or self.dropout == 0.0)(x)
        x = nn.relu(convolution(self.width, 3, 1, self.dtype, name="conv_neighbours")(x))
        init, bias = initializers.weights(self.width), initializers.constant(_FIRST_BIAS)
        return nn.Dense(self.n_landmarks, dtype=jnp.float32, kernel_init=init, bias_init=bias, name="linear")(x)


def area(logits: jax.Array) -> jax.Array:
    """f32[B, C]: share of the image that each landmark covers, from logits [B, h, w, C] of places."""
    return jax.nn.sigmoid(logits.astype(jnp.float32)).mean((1, 2))


def area_vote(logits: jax.Array) -> jax.Array:
    """f32[B, C]: log of the area over `REFERENCE_AREA`: 0 there, 4.6 for the whole image, -6.9 for nothing."""
    return jnp.log(area(logits) / REFERENCE_AREA + _LEAST)
