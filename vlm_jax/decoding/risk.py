"""Minimum-Bayes-risk decoding (Eikema and Aziz 2020, arXiv 2005.10283): of W samples the one most like all of them.

The most probable text of a model of language is often a poor one. This takes samples for what the model believes, and
answers with the sample whose expected score against them is the highest:

    argmax_y  1/W sum_w u(y, y_w),    u = F1 of ROUGE-L (Lin 2004) on the model's tokens.

The noise is one draw that every row of the batch shares: an answer depends neither on the row's neighbours nor on its
place, and the same input has the same answer each time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vlm_jax.decoding import sampling
from vlm_jax.decoding.prefill import Prefilled


def make_sampler(temperature: float) -> sampling.Select:
    """Draws hypothesis w of every row with the same noise (Gumbel maximum), from the tempered distribution.

    Raises:
      ValueError: a temperature that is not above 0.
    """
    if temperature <= 0:
        raise ValueError(f"need temperature > 0; got {temperature}")

    def select(log_probs: jax.Array, key: jax.Array) -> jax.Array:
        noise = jax.random.gumbel(key, log_probs.shape[-2:], log_probs.dtype)
        return jnp.argmax(log_probs / temperature + noise, axis=-1).astype(jnp.int32)

    return select


def search(
    start: Prefilled, *, temperature: float, eos_id: int, allowed, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Samples W hypotheses a row and picks one; the first of equals.

    Returns:
      tokens int32[B, R, T] and scores f32[B, R], the mean log-probability of the answer's tokens.
    """
    tokens, scores = sampling.search(start, make_sampler(temperature), eos_id=eos_id, allowed=allowed, key=key)
    words = tokens[..., 1:]
    best = jnp.argmax(rouge_l(words, (words != 0) & (words != eos_id)).mean(axis=-1), axis=-1)[..., None]
    chosen = jnp.take_along_axis(tokens, best[..., None], axis=-2)[..., 0, :]
    return chosen, jnp.take_along_axis(scores, best, axis=-1)[..., 0]


def rouge_l(tokens: jax.Array, counted: jax.Array) -> jax.Array:
    """F1 of ROUGE-L of each of W texts with each: twice their longest common subsequence by the sum of their lengths.

    Args:
      tokens: int32[..., W, T].
      counted: bool[..., W, T], which of them belong to the text.

    Returns:
      f32[..., W, W]; 0 with a text of no token.
    """
    # Two numbers that no token has, so that what is not counted equals nothing.
    left, right = (jnp.where(counted, tokens, outside) for outside in (-1, -2))
    row_shape = (*tokens.shape[:-2], tokens.shape[-2], *tokens.shape[-2:])  # [..., W, W, T]

    def extend(row: jax.Array, token: jax.Array) -> tuple[jax.Array, None]:
        """Row t of the table from row t - 1: `token` [..., W] is the t-th of the left texts."""
        same = (token[..., :, None, None] == right[..., None, :, :]).astype(row.dtype)
        before = jnp.pad(row[..., :-1], [(0, 0)] * (row.ndim - 1) + [(1, 0)])
        return jax.lax.cummax(jnp.maximum(row, before + same), axis=row.ndim - 1), None

    table, _ = jax.lax.scan(extend, jnp.zeros(row_shape, jnp.int32), jnp.moveaxis(left, -1, 0))
    length = counted.sum(axis=-1)
    both = length[..., :, None] + length[..., None, :]
    return 2.0 * table[..., -1] / jnp.maximum(both, 1)
