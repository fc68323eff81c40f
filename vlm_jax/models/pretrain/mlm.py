"""Masked language model (Devlin et al. 2019): BERT's encoder with its head over the words that were hidden.

What is hidden is drawn before the model sees the text (tasks/mask_language.py).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import TextEncoderConfig
from vlm_jax.models import initializers
from vlm_jax.models.layers import BERT_EPSILON, gelu, layer_norm
from vlm_jax.models.state import MaskedTokens, Outputs
from vlm_jax.models.text_encoder import TextEncoder

MASK_PERCENT = 15
"""Of a text's tokens."""


def n_hidden(length: Any) -> Any:
    """How many of `length` tokens (int or int32[...]) are hidden: 15 % to the nearest number, as BERT's own code.

    0 for the shortest texts; `tasks.mask_language` hides one of them all the same.
    """
    return (length * MASK_PERCENT + 50) // 100


class MlmHead(nn.Module):
    """Dense, GELU, norm, and the product with the word embedding plus a bias a word (BERT's `cls.predictions`)."""

    vocab_size: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[..., D] -> [..., D] to be multiplied with the word embedding, and the bias f32[V]."""
        width = x.shape[-1]
        x = nn.Dense(width, dtype=self.dtype, kernel_init=initializers.weights(width), name="dense")(x)
        bias = self.param("bias", initializers.zeros, (self.vocab_size,))
        return layer_norm(BERT_EPSILON, self.dtype, name="norm")(gelu(x)), bias


class MaskedLanguage(nn.Module):
    """The system `mlm`: the face of a system, without landmarks and texts. Its one task is `mask_language`.

    Attributes:
      text: of the encoder that is kept, under the name `text_encoder`.
      vocab_size: V, rows of the word embedding, padding included.
      n_tokens: the tokenizer's size; logits beyond it are masked.
    """

    text: TextEncoderConfig
    vocab_size: int
    n_tokens: int
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0
    remat: str = ""
    scan: bool = False
    attention: str = "xla"
    tasks: tuple[str, ...] = ("mask_language",)

    @property
    def text_tasks(self) -> tuple[str, ...]:
        """None: nothing is generated."""
        return ()

    def setup(self) -> None:
        options = {"dtype": self.dtype, "dropout": self.dropout, "remat": self.remat, "scan": self.scan}
        self.text_encoder = TextEncoder(self.text, self.vocab_size, **options, attention=self.attention)
        self.mlm_head = MlmHead(self.vocab_size, self.dtype)

    def __call__(
        self, image: jax.Array, frame_mask: jax.Array, prompt: jax.Array, target: jax.Array, *, train: bool = False
    ) -> Outputs:
        """Logits of the hidden tokens alone: the head is the larger part of the work.

        Args:
          image, frame_mask: not read.
          prompt: int32[B, K, S]; row 0 is the text with words hidden.
          target: int32[B, K, S]; row 0 is the token that stood at each hidden place, 0 elsewhere.
          train: dropout on.
        """
        del image, frame_mask
        text, wanted = jnp.asarray(prompt)[:, 0], jnp.asarray(target)[:, 0]
        room = min(max(n_hidden(text.shape[1]), 1), wanted.shape[1])
        places = jnp.argsort(wanted == 0, axis=1, stable=True)[:, :room]
        hidden = self.text_encoder(text, train=train)
        at_places = jnp.take_along_axis(hidden, places[..., None], axis=1, mode="clip")
        features, bias = self.mlm_head(at_places)
        logits = self.text_encoder.token_logits(features, bias, self.n_tokens)
        return Outputs(None, None, MaskedTokens(logits, jnp.take_along_axis(wanted, places, axis=1)))
