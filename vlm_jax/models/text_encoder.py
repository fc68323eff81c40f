"""BERT's encoder (Devlin et al. 2019) without a pooler; without token types it is DistilBERT's (Sanh et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from vlm_jax.config.schema import TextEncoderConfig
from vlm_jax.models import initializers
from vlm_jax.models.layers import BERT_EPSILON, Stack, layer_norm
from vlm_jax.models.products import tied, word_logits
from vlm_jax.parallel.copies import over_shards, row_copies


class TextEncoder(nn.Module):
    """Post-norm encoder. Its word embedding is the decoder's too: `embed` and `token_logits` share one table.

    Attributes:
      vocab_size: rows of the word embedding, padding included.
    """

    config: TextEncoderConfig
    vocab_size: int
    dtype: jnp.dtype = jnp.float32
    dropout: float = 0.0
    remat: str = ""
    scan: bool = False
    attention: str = "xla"

    def setup(self) -> None:
        c = self.config
        init = initializers.weights(c.width)
        self.word_embedding = self.param("word_embedding", init, (self.vocab_size, c.width))
        self.word_copies = row_copies(self.word_embedding)
        self.position_embedding = self.param("position_embedding", init, (c.positions, c.width))
        if c.token_types:
            self.token_type_embedding = self.param("token_type_embedding", init, (c.token_types, c.width))
        self.embedding_norm = layer_norm(BERT_EPSILON, self.dtype)
        self.embedding_dropout = nn.Dropout(self.dropout)
        options = {
            "width": c.width,
            "heads": c.heads,
            "mlp": c.mlp,
            "pre_norm": False,
            "epsilon": BERT_EPSILON,
            "dtype": self.dtype,
            "dropout": self.dropout,
            "attention": self.attention,
        }
        self.blocks = Stack(c.layers, options, 0.0, self.remat, self.scan)

    def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
        """int32[B, S], 0 = padding -> [B, S, D]. Every token is of type 0. What stands at padding is arbitrary."""
        x = self.embed(tokens) + self.position_embedding[: tokens.shape[1]].astype(self.dtype)
        if self.config.token_types:
            x = x + self.token_type_embedding[0].astype(self.dtype)
        x = self.embedding_dropout(self.embedding_norm(x), deterministic=not train or self.dropout == 0.0)
        return self.blocks(x, (tokens != 0)[:, None, None, :], train=train)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """int32[...] -> word embeddings [..., D]."""
        return self._with_table(lambda table, ids: jnp.take(table, ids, axis=0).astype(self.dtype), tokens)

    def token_logits(self, hidden: jax.Array, bias: jax.Array, n_tokens: int) -> jax.Array:
        """[..., D] -> f32[..., V], with a bias [vocab_size]; see `word_logits`."""

        def product(v: int, x: jax.Array) -> jax.Array:
            return self._with_table(lambda table, x: tied(table[:v], x), x)

        return word_logits(hidden, self.word_embedding, bias, n_tokens, product)

    def _with_table(self, fn: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array) -> jax.Array:
        """fn(word embedding, x); on a mesh shard by shard, so that its gradient is sent once and not at each use."""
        if self.word_copies is None or x.shape[0] % self.word_copies.shape[0]:
            return fn(self.word_embedding, x)
        return over_shards(fn, self.word_copies, x)
