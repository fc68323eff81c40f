"""The image networks of the baselines, by the name that config.model.backbone.name gives."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import BackboneConfig
from vlm_jax.errors import UserError
from vlm_jax.models.backbones.efficientnet import EfficientNetLite
from vlm_jax.models.backbones.resnet import ResNet
from vlm_jax.models.backbones.swin import Swin

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "resnet18": ResNet,
    "resnet50": ResNet,
    "efficientnet_lite0": EfficientNetLite,
    "swin_t": Swin,
}


FINER = ("resnet18", "resnet50", "efficientnet_lite0")
"""Networks that hand out maps of stride 8 and 16, too."""


def make_backbone(
    config: BackboneConfig, dtype: jnp.dtype = jnp.float32, name: str | None = "backbone", *, finer: bool = False
) -> nn.Module:
    """The network `config` describes, called as `(image, train=False, mask=None)`.

    image is uint8 (or float in 0-255) [B, H, W, 3], not normalised; mask bool[B] is False where a row has no image, and
    such rows count in no batch statistic. Out come the final map [B, h, w, D] of a convolutional network, or Swin's
    normed tokens [B, h * w, D]. h and w are H / 32 and W / 32, rounded up.

    Args:
      config: `model.backbone`.
      dtype: of activations; parameters and statistics are float32.
      name: of the submodule; None in a module's `setup`, which names by assignment. The partition rules and
        importers know `backbone`.
      finer: out come three maps, of stride 8, 16 and 32; of networks in `FINER` alone.

    Raises:
      UserError: an unknown name.
    """
    if config.name not in BACKBONES:
        raise UserError(f"config.model.backbone.name is {config.name!r}; expected one of {', '.join(BACKBONES)}")
    options = {"finer": True} if finer else {}
    return BACKBONES[config.name](config=config, dtype=dtype, name=name, **options)


def pooled(features: jax.Array) -> jax.Array:
    """The mean over places, f32[B, D], of a map [B, h, w, D] or of tokens [B, L, D]."""
    return features.astype(jnp.float32).mean(tuple(range(1, features.ndim - 1)))


class ImageClassifier(nn.Module):
    """A backbone with the linear classifier on pooled features that it was published with (ImageNet: 1000 classes)."""

    config: BackboneConfig
    n_classes: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """uint8 (or float in 0-255) [B, H, W, 3] -> logits f32[B, n_classes]."""
        features = pooled(make_backbone(self.config, self.dtype)(image, train, mask))
        return nn.Dense(self.n_classes, dtype=jnp.float32, name="classifier")(features)
