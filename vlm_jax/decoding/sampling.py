"""Greedy search and sampling, in one loop: W hypotheses a row, each of them written by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vlm_jax.decoding.constraints import NEGATIVE, constrain
from vlm_jax.decoding.prefill import Prefilled

Select = Callable[[jax.Array, jax.Array], jax.Array]
"""fn(log_probs f32[B, R, W, V], key) -> int32[B, R, W], the next tokens."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    position: jax.Array  # int32[]: index of the last written token
    tokens: jax.Array  # int32[B, R, W, T]
    log_prob: jax.Array  # f32[B, R, W], summed
    count: jax.Array  # int32[B, R, W], generated tokens
    ended: jax.Array  # bool[B, R, W]
    cache: Any
    key: jax.Array


def greedy(log_probs: jax.Array, key: jax.Array) -> jax.Array:
    """The most probable token; of equals, the lowest id."""
    del key
    return jnp.argmax(log_probs, axis=-1).astype(jnp.int32)


def make_sampler(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Select:
    """Draws from the tempered distribution, cut to the `top_k` best tokens, then to the nucleus of mass `top_p`.

    Args:
      temperature: > 0; below 1 sharpens.
      top_k: 0 = all tokens.
      top_p: share of the probability kept, in (0, 1] (Holtzman et al. 2020); the best token always stays.

    Raises:
      ValueError: an argument is out of its range.
    """
    if temperature <= 0 or top_k < 0 or not 0 < top_p <= 1:
        raise ValueError(f"need temperature > 0, top_k >= 0, 0 < top_p <= 1; got {temperature}, {top_k}, {top_p}")

    def select(log_probs: jax.Array, key: jax.Array) -> jax.Array:
        return jax.random.categorical(key, restrict(log_probs / temperature, top_k, top_p)).astype(jnp.int32)

    return select


def restrict(logits: jax.Array, top_k: int, top_p: float) -> jax.Array:
    """Logits [..., V] with everything outside the top k and the nucleus set to NEGATIVE.

    A token belongs to the nucleus when the tokens before it, from the best on, have less than `top_p` together.
    """
    if top_k == 0 and top_p == 1:
        return logits
    order = jnp.argsort(-logits, axis=-1, stable=True)
    ranked = jnp.take_along_axis(logits, order, axis=-1)
    if top_k:
        ranked = jnp.where(jnp.arange(logits.shape[-1]) < top_k, ranked, NEGATIVE)
    if top_p < 1:
        mass = jax.nn.softmax(ranked, axis=-1)
        ranked = jnp.where(jnp.cumsum(mass, axis=-1) - mass < top_p, ranked, NEGATIVE)
    return jnp.take_along_axis(ranked, jnp.argsort(order, axis=-1), axis=-1)


def search(start: Prefilled, select: Select, *, eos_id: int, allowed, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Runs the loop until every hypothesis has ended or T tokens are written.

    Returns:
      tokens int32[B, R, W, T] and scores f32[B, R, W], the mean log-probability of the generated tokens under the
      constrained model (untempered, uncut, also for a sampler).
    """
    shape, length = start.tokens.shape[:3], start.tokens.shape[-1]

    def body(state: _State) -> _State:
        last = jax.lax.dynamic_index_in_dim(state.tokens, state.position, axis=-1, keepdims=False)
        logits, cache = start.step(state.cache, last, state.position)
        log_probs = constrain(logits, allowed)
        key, use = jax.random.split(state.key)
        token = jnp.where(state.ended, 0, select(log_probs, use))
        gained = jnp.take_along_axis(log_probs, token[..., None], axis=-1)[..., 0]
        return _State(
            position=state.position + 1,
            tokens=jax.lax.dynamic_update_index_in_dim(state.tokens, token, state.position + 1, axis=-1),
            log_prob=state.log_prob + jnp.where(state.ended, 0.0, gained),
            count=state.count + ~state.ended,
            ended=state.ended | (token == eos_id),
            cache=cache,
            key=key,
        )

    zero = jnp.zeros(shape)
    first = _State(jnp.int32(0), start.tokens, zero, zero.astype(jnp.int32), zero > 0, start.cache, key)
    last = jax.lax.while_loop(lambda s: (s.position < length - 1) & ~jnp.all(s.ended), body, first)
    return last.tokens, last.log_prob / jnp.maximum(last.count, 1)
