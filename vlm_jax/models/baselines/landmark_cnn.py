"""The landmark baseline: an ImageNet-style network and one sigmoid a landmark on its pooled features.

It sees the image alone and says nothing in words, so that its scores tell what language adds to landmark recognition.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import BackboneConfig, Config
from vlm_jax.errors import UserError
from vlm_jax.models import initializers
from vlm_jax.models.backbones.networks import make_backbone, pooled
from vlm_jax.models.fusion import masked_mean
from vlm_jax.models.state import Cache, Memory, Outputs

TASKS = ("landmarks",)


class LandmarkCnn(nn.Module):
    """Image [B, F, H, W, 3] in, landmark logits out: the features of all frames of an example, averaged.

    Attributes:
      n_landmarks: C.
      dtype: of activations; parameters, batch statistics and logits are float32.
    """

    config: BackboneConfig
    n_landmarks: int
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @property
    def tasks(self) -> tuple[str, ...]:
        """Landmarks alone."""
        return TASKS

    @property
    def text_tasks(self) -> tuple[str, ...]:
        """None."""
        return ()

    def setup(self) -> None:
        self.backbone = make_backbone(self.config, self.dtype, None)
        self.landmark_head = Linear(self.n_landmarks)
        self.drop = nn.Dropout(self.dropout)

    def __call__(
        self, image: jax.Array, frame_mask: jax.Array, prompt: jax.Array, target: jax.Array, *, train: bool = False
    ) -> Outputs:
        """As `Vlm.__call__`; prompt and target are not read, and there are no token logits."""
        del target
        return Outputs(self.encode(image, frame_mask, prompt, train=train).landmark_logits, None)

    def encode(self, image: jax.Array, frame_mask: jax.Array, prompt: jax.Array, *, train: bool = False) -> Memory:
        """As `Vlm.encode`: f32[B, C] logits; the memory holds nothing to decode from.

        An example without a frame is judged by features of zeros, that is by the head's bias.
        """
        frame_mask = jnp.asarray(frame_mask)
        b, f = frame_mask.shape
        maps = self.backbone(image.reshape(b * f, *image.shape[2:]), train, frame_mask.reshape(-1))
        features = masked_mean(pooled(maps).reshape(b, f, -1), frame_mask)
        logits = self.landmark_head(self.drop(features, deterministic=not train or self.dropout == 0.0))
        nothing = jnp.zeros((b, 0, prompt.shape[-1]), bool)
        return Memory(logits, (), nothing, frame_mask)

    @nn.nowrap
    def init_cache(self, memory: Memory, width: int, length: int) -> Cache:
        """Empty: there is no decoder."""
        del memory, width, length
        return Cache((), ())

    def decode_step(
        self, memory: Memory, cache: Cache, tokens: jax.Array, position: jax.Array | int
    ) -> tuple[jax.Array, Cache]:
        """No text task, so no stream: logits f32[B, 0, W, 0]."""
        del memory, position
        return jnp.zeros((*tokens.shape, 0)), cache


class Linear(nn.Module):
    """One logit a landmark, float32."""

    n_landmarks: int

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """f32[B, D] -> f32[B, C]."""
        init = initializers.weights(features.shape[-1])
        return nn.Dense(self.n_landmarks, dtype=jnp.float32, kernel_init=init, name="linear")(features)


def make_landmark_cnn(config: Config, n_landmarks: int, dtype: jnp.dtype) -> LandmarkCnn:
    """The system `landmark_cnn`.

    Raises:
      UserError: tasks that it does not have, or nothing to recognise.
    """
    if tuple(config.tasks) != TASKS:
        raise UserError(
            f"config.tasks is {', '.join(config.tasks)}, but landmark_cnn recognises landmarks and nothing else: "
            "set --config.tasks=landmarks"
        )
    return LandmarkCnn(config.model.backbone, n_landmarks, config.model.dropout, dtype)
