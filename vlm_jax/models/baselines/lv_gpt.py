"""LV-GPT (SurgicalGPT; Seenivasan et al. 2023, arXiv 2304.09974): GPT-2 over [words ; vision tokens], causal over both.

`LvGptClassifier` is the published visual question answering model (KNOWN). `LvGpt` is what it shares with our
multi-task form in surgical_gpt.py.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import ModelConfig
from vlm_jax.models import initializers
from vlm_jax.models.backbones.convolution import BatchNorm
from vlm_jax.models.backbones.networks import make_backbone, pooled
from vlm_jax.models.baselines.gpt2 import Gpt2, KeysValues
from vlm_jax.models.image_encoder import ImageEncoder
from vlm_jax.models.layers import remat_of

WORD, VISION = 0, 1
"""Token types. Rows 0 and 1 of GPT-2's own word embedding stand for them, as in the published model."""


def n_vision_tokens(config: ModelConfig, image_size: int) -> int:
    """Vision tokens of one frame: 197 of a ViT-B/16, 49 of Swin-T and 49 or 1 of ResNet-18 at 224 pixels."""
    if config.gpt.vision == "vit":
        return 1 + (image_size // config.image_encoder.patch) ** 2
    if config.gpt.vision == "resnet18" and config.gpt.vision_tokens == "pooled":
        return 1
    return (-(-image_size // 32)) ** 2


class ClassifierHead(nn.Module):
    """Linear, batch norm, dropout, linear: the published head, which has no activation. In float32."""

    n_classes: int
    width: int
    dropout: float

    @nn.compact
    def __call__(self, pooled_sequence: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """f32[B, D] -> logits f32[B, n_classes]; rows that `mask` bool[B] leaves out enter no statistics."""
        init = initializers.weights(pooled_sequence.shape[-1])
        x = nn.Dense(self.width, dtype=jnp.float32, kernel_init=init, name="hidden")(pooled_sequence)
        x = BatchNorm(name="norm_hidden")(x, train, mask)
        x = nn.Dropout(self.dropout)(x, deterministic=not train or self.dropout == 0.0)
        return nn.Dense(self.n_classes, dtype=jnp.float32, kernel_init=init, name="linear")(x)


class LvGpt(nn.Module):
    """The vision tokeniser, the words' own embedding, and GPT-2 over both.

    Attributes:
      config: `gpt` and the section of the vision tokeniser (`image_encoder` or `backbone`) are read.
      image_size: pixels.
      vocab_size: rows of both word embeddings.
      dtype: of activations; parameters, batch statistics, softmax, norms and logits are float32.
    """

    config: ModelConfig
    image_size: int
    vocab_size: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        c, width = self.config, self.config.gpt.width
        init = initializers.weights(width)
        self.gpt = Gpt2(c.gpt, self.vocab_size, self.dtype, c.dropout, remat_of(c))
        # A trainable copy of GPT-2's table: the two part ways in training, as in the published model.
        self.question_embedding = self.param("question_embedding", init, (self.vocab_size, width))
        if c.gpt.vision == "vit":
            options = {"dtype": self.dtype, "dropout": c.dropout, "remat": remat_of(c), "attention": c.attention}
            self.image_encoder = ImageEncoder(c.image_encoder, self.image_size, **options)
        else:
            self.backbone = make_backbone(dataclasses.replace(c.backbone, name=c.gpt.vision), self.dtype, None)
        if self.projects:
            self.vision_projection = nn.Dense(width, dtype=self.dtype, kernel_init=init)

    @property
    def projects(self) -> bool:
        """Whether vision tokens pass a linear layer: ResNet's always, others where their width is not GPT-2's."""
        c = self.config
        if c.gpt.vision == "vit":
            return c.image_encoder.width != c.gpt.width
        return c.gpt.vision == "resnet18" or 8 * round(96 * c.backbone.width_factor) != c.gpt.width

    def vision(self, image: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """uint8 (or float in 0-255) [B, H, W, 3], mask bool[B] of images that are there -> tokens [B, P, D]."""
        gpt = self.config.gpt
        if gpt.vision == "vit":
            tokens = self.image_encoder(image, train=train)
        else:
            tokens = self.backbone(image, train, mask)
            if gpt.vision == "resnet18":
                is_pooled = gpt.vision_tokens == "pooled"
                shape = (tokens.shape[0], -1, tokens.shape[-1])
                tokens = pooled(tokens)[:, None].astype(self.dtype) if is_pooled else tokens.reshape(shape)
        return self.vision_projection(tokens) if self.projects else tokens

    def words(self, tokens: jax.Array) -> jax.Array:
        """int32[..., S] -> embeddings [..., S, D] by the copy."""
        return jnp.take(self.question_embedding, tokens, axis=0).astype(self.dtype)

    def sequence(
        self, words: jax.Array, word_mask: jax.Array, vision: jax.Array, vision_mask: jax.Array, train: bool
    ) -> tuple[jax.Array, tuple[KeysValues, ...], jax.Array]:
        """[words [B, S, D] ; vision [B, P, D]] through GPT-2.

        Returns:
          hidden states [B, S + P, D], keys and values of each layer, and the mask bool[B, S + P].
        """
        s, p = words.shape[1], vision.shape[1]
        mask = jnp.concatenate([word_mask, vision_mask], axis=1)
        x = jnp.concatenate([words, vision.astype(words.dtype)], axis=1)
        types = jnp.concatenate([jnp.full(s, WORD), jnp.full(p, VISION)])
        mode = self.config.gpt.vision_positions
        if mode == "none":
            x = self.gpt.place(x, jnp.arange(s + p), None, train)
        else:
            places = jnp.zeros(p, jnp.int32) if mode == "zero" else jnp.arange(p)
            x = self.gpt.place(x, jnp.concatenate([jnp.arange(s), places]), types, train)
        hidden, memory = self.gpt(x, mask, train=train)
        return hidden, memory, mask


class LvGptClassifier(LvGpt):
    """The published classifier: question and image in, one of `n_classes` answers out.

    With a ViT it holds the pooler that Hugging Face's ViTModel carries along and nothing reads: it is one of the
    published 249.8 M parameters.
    """

    n_classes: int = 18

    def setup(self) -> None:
        super().setup()
        gpt = self.config.gpt
        self.classifier_head = ClassifierHead(self.n_classes, gpt.head_width, gpt.head_dropout)
        if gpt.vision == "vit":
            width = self.config.image_encoder.width
            self.unused_pooler_kernel = self.param("unused_pooler_kernel", initializers.zeros, (width, width))
            self.unused_pooler_bias = self.param("unused_pooler_bias", initializers.zeros, (width,))

    def __call__(
        self, question: jax.Array, question_mask: jax.Array, image: jax.Array, *, train: bool = False
    ) -> jax.Array:
        """Logits of the answers.

        Args:
          question: int32[B, S], padded (the published model pads with [EOS] to 25).
          question_mask: bool[B, S]; False = padding: no key for others, yet averaged with the rest.
          image: uint8 (or float in 0-255) [B, H, W, 3].
          train: dropout on, batch statistics in use.

        Returns:
          f32[B, n_classes].
        """
        vision = self.vision(image, train)
        seen = jnp.ones(vision.shape[:2], bool)
        hidden, _, _ = self.sequence(self.words(question), jnp.asarray(question_mask), vision, seen, train)
        return self.classifier_head(hidden.astype(jnp.float32).mean(axis=1), train)
