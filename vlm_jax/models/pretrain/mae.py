"""Masked autoencoder (He et al. 2022, arXiv 2111.06377): most patches are hidden, and read off the few that are seen.

Differences from the image encoder's use elsewhere: positions are fixed sines and cosines, and only the visible patches
are encoded. Drop-path and dropout stay off, as in the paper.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import ImageEncoderConfig, MaeConfig
from vlm_jax.models import initializers
from vlm_jax.models.image_encoder import ImageEncoder, normalise, patches
from vlm_jax.models.layers import PRE_NORM_EPSILON, Stack, layer_norm
from vlm_jax.models.positions import sincos_2d
from vlm_jax.models.state import Outputs, Reconstruction

PIXEL_EPSILON = 1e-6
"""Added to a patch's variance."""


def visible_patches(noise: jax.Array, mask_ratio: float) -> tuple[jax.Array, jax.Array]:
    """Which patches are seen: those of the least noise.

    Args:
      noise: f32[B, P].
      mask_ratio: share that is hidden; `int(P * (1 - mask_ratio))` stay, as in the published code.

    Returns:
      kept int32[B, M], in the order of their noise, and hidden bool[B, P].
    """
    n = noise.shape[1]
    order = jnp.argsort(noise, axis=1)
    rank = jnp.argsort(order, axis=1)
    n_kept = int(n * (1 - mask_ratio))
    return order[:, :n_kept], rank >= n_kept


def wanted_pixels(image: jax.Array, config: ImageEncoderConfig, normalise_pixels: bool) -> jax.Array:
    """f32[B, P, N]: the normalised image by patches, each with its own mean and deviation taken out where asked for.

    The variance is the unbiased one, as `torch.var` has it.
    """
    wanted = patches(normalise(image, config, jnp.dtype("float32")), config.patch)
    if not normalise_pixels:
        return wanted
    mean, variance = wanted.mean(axis=-1, keepdims=True), wanted.var(axis=-1, keepdims=True, ddof=1)
    return (wanted - mean) / jnp.sqrt(variance + PIXEL_EPSILON)


class MaeDecoder(nn.Module):
    """From the encoded visible patches to the pixels of all: one token for the hidden ones, and a light transformer."""

    config: MaeConfig
    n_values: int
    dtype: jnp.dtype = jnp.float32
    remat: str = ""
    scan: bool = False
    attention: str = "xla"

    @nn.compact
    def __call__(self, tokens: jax.Array, kept: jax.Array, hidden: jax.Array, train: bool) -> jax.Array:
        """tokens [B, 1 + M, D], kept int32[B, M], hidden bool[B, P] -> f32[B, P, n_values]."""
        c, n_patches = self.config, hidden.shape[1]
        init = initializers.weights(c.decoder_width)
        x = nn.Dense(c.decoder_width, dtype=self.dtype, kernel_init=init, name="embed")(tokens)
        mask_token = self.param("mask_token", init, (c.decoder_width,)).astype(self.dtype)
        full = jnp.broadcast_to(mask_token, (x.shape[0], n_patches, c.decoder_width))
        full = jax.vmap(lambda row, places, seen: row.at[places].set(seen))(full, kept, x[:, 1:])
        positions = jnp.asarray(sincos_2d(c.decoder_width, round(n_patches**0.5)), self.dtype)
        x = jnp.concatenate([x[:, :1], full], axis=1) + positions
        options = {
            "width": c.decoder_width,
            "heads": c.decoder_heads,
            "mlp": c.decoder_mlp,
            "pre_norm": True,
            "epsilon": PRE_NORM_EPSILON,
            "dtype": self.dtype,
            "attention": self.attention,
        }
        x = Stack(c.decoder_layers, options, 0.0, self.remat, self.scan, name="blocks")(x, train=train)
        x = layer_norm(PRE_NORM_EPSILON, self.dtype, name="norm")(x[:, 1:])
        return nn.Dense(self.n_values, dtype=jnp.float32, kernel_init=init, name="predict")(x)


class Mae(nn.Module):
    """The system `mae`: the face of a system, without landmarks and texts. Its one task is `reconstruct`.

    Attributes:
      image: of the encoder that is kept, under the name `image_encoder`.
      mae: masking and decoder.
      image_size: pixels.
    """

    image: ImageEncoderConfig
    mae: MaeConfig
    image_size: int
    dtype: jnp.dtype = jnp.float32
    remat: str = ""
    scan: bool = False
    attention: str = "xla"
    tasks: tuple[str, ...] = ("reconstruct",)

    @property
    def text_tasks(self) -> tuple[str, ...]:
        """None: nothing is generated."""
        return ()

    def setup(self) -> None:
        options = {"dtype": self.dtype, "remat": self.remat, "scan": self.scan, "attention": self.attention}
        self.image_encoder = ImageEncoder(self.image, self.image_size, fixed_positions=True, **options)
        self.mae_decoder = MaeDecoder(self.mae, self.image.patch**2 * 3, **options)

    def __call__(
        self, image: jax.Array, frame_mask: jax.Array, prompt: jax.Array, target: jax.Array, *, train: bool = False
    ) -> Outputs:
        """The first frame of each example, masked anew each time.

        Args:
          image: uint8[B, F, H, W, 3].
          frame_mask, prompt, target: not read.
          train: the noise is drawn from the rng stream `dropout`; else it is the same in every call, so that
            validation losses can be compared.
        """
        del frame_mask, prompt, target
        key = self.make_rng("dropout") if train else jax.random.key(0)
        n_patches = (self.image_size // self.image.patch) ** 2
        return self.reconstruct(image[:, 0], jax.random.uniform(key, (image.shape[0], n_patches)), train=train)

    def reconstruct(self, image: jax.Array, noise: jax.Array, *, train: bool = False) -> Outputs:
        """image [B, H, W, 3]; noise f32[B, P], the patches of the least noise are seen."""
        kept, hidden = visible_patches(noise, self.mae.mask_ratio)
        tokens = self.image_encoder(image, kept, train=train)
        predicted = self.mae_decoder(tokens, kept, hidden, train)
        wanted = wanted_pixels(image, self.image, self.mae.normalise_pixels)
        return Outputs(None, None, Reconstruction(predicted, wanted, hidden))
