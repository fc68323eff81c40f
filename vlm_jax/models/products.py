"""Products of activations with weights, each as one of two matrices.

With more axes XLA makes of a weight's gradient the product of a transposed copy, and computes into that copy, in its
order, all that the activations came from: on a CPU a step of `light` takes an eighth longer (docs/performance.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vlm_jax.parallel.copies import axis_size

TILE = 128
"""Words: what matrix units take at a time, on TPUs and (in multiples of 8) on GPUs."""
MASKED_LOGIT = -1e9
"""Of rows that only pad the vocabulary: finite, and of probability 0."""

Product = Callable[[int, jax.Array], jax.Array]
"""(V, [N, D]) -> f32[N, V]."""


def dot_general(x: jax.Array, kernel: jax.Array, dimensions: Any, **how: Any) -> jax.Array:
    """`jax.lax.dot_general` of the last axes of x with the first of a kernel, for Flax's layers: [..., D] by [D, ...].

    Raises:
      ValueError: other axes are contracted, or some are batched.
    """
    n = len(dimensions[0][0])
    last, first = tuple(range(x.ndim - n, x.ndim)), tuple(range(n))
    if (tuple(dimensions[0][0]), tuple(dimensions[0][1])) != (last, first) or any(dimensions[1]):
        raise ValueError(f"only the last axes by the first are one product of matrices, not {dimensions}")
    flat = (x.reshape(-1, math.prod(x.shape[-n:])), kernel.reshape(math.prod(kernel.shape[:n]), -1))
    out = jax.lax.dot_general(*flat, (((1,), (0,)), ((), ())), **how)
    return out.reshape(*x.shape[:-n], *kernel.shape[n:])


def tied(table: jax.Array, x: jax.Array) -> jax.Array:
    """[N, D] by a table [V, D] -> f32[N, V] (weight tying; Press and Wolf 2017)."""
    return jnp.einsum("nd,vd->nv", x, table.astype(x.dtype), preferred_element_type=jnp.float32)


def rows_said(vocab_size: int, n_tokens: int) -> int:
    """V, the rows of a vocabulary that get a logit: the real ones, and what fills the last TILE.

    All of them where the mesh splits the vocabulary: a cut would go across the shards, and be sent.
    """
    return vocab_size if axis_size("tensor") > 1 else min(vocab_size, -(-n_tokens // TILE) * TILE)


def word_logits(
    hidden: jax.Array, table: jax.Array, bias: jax.Array | None, n_tokens: int, product: Product | None = None
) -> jax.Array:
    """[..., D] -> f32[..., V] with V as `rows_said` has it.

    Args:
      hidden: what the last layer gives, in the activations' dtype.
      table: [vocab_size, D].
      bias: f32[vocab_size], or None.
      n_tokens: real words; the rows behind them are masked.
      product: another way to `tied`, of the first V rows.
    """
    v = rows_said(len(table), n_tokens)
    x = hidden.reshape(-1, hidden.shape[-1])
    logits = tied(table[:v], x) if product is None else product(v, x)
    if bias is not None:  # as a product, whose gradient is one too: a sum over rows takes a CPU ten times as long
        ones = jnp.ones((len(logits), 1))
        logits = logits + jnp.matmul(ones, bias[None, :v], precision="highest")  # else bfloat16 on TPUs, TF32 on GPUs
    if n_tokens < v:
        logits = jnp.where(jnp.arange(v) < n_tokens, logits, MASKED_LOGIT)
    return logits.reshape(*hidden.shape[:-1], v)
