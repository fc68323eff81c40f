"""Beam search with exponential-decay rescoring, in one loop.

The navigation-sentence baseline (Bieck et al. 2020, doi 10.1007/s11548-020-02264-2) generates with "an adapted beam
search algorithm with exponential decay beam rescoring" (KNOWN); the formula is not in what we could read. OURS: the
score of a hypothesis y is

    score(y) = sum_t w_t * log p(y_t | y_<t) / (sum_t w_t) ** length_penalty,    w_t = exp(-decay * t),

with t = 0 for the first generated token and [EOS] counted as the last. An early token, which settles structure and
side, so weighs more than a late one, whose error no longer spreads. decay = 0 is plain beam search: with
length_penalty 0 by the sum of log-probabilities, with 1 by their mean. Hypotheses of one length are ranked inside the
beam by the numerator, which is the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vlm_jax.decoding.constraints import NEGATIVE, constrain
from vlm_jax.decoding.prefill import Prefilled


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Best:
    """The best finished hypothesis of each row."""

    tokens: jax.Array  # int32[B, R, T]
    score: jax.Array  # f32[B, R], normalised
    mean: jax.Array  # f32[B, R], mean log-probability


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    position: jax.Array  # int32[]: index of the last written token
    tokens: jax.Array  # int32[B, R, W, T], live hypotheses, best first
    weighted: jax.Array  # f32[B, R, W], sum of weighted log-probabilities
    log_prob: jax.Array  # f32[B, R, W], plain sum
    cache: Any
    best: _Best


def search(
    start: Prefilled, *, eos_id: int, allowed, decay: float = 0.0, length_penalty: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Runs the loop until no live hypothesis can beat the best finished one, in every row.

    A hypothesis cut at T competes with its score so far.

    Returns:
      tokens int32[B, R, T] and scores f32[B, R], the plain mean log-probability of the winner's tokens.
    """
    length = start.tokens.shape[-1]
    weights = jnp.exp(-decay * jnp.arange(length - 1, dtype=jnp.float32))
    norms = jnp.cumsum(weights) ** length_penalty  # norms[t]: of a hypothesis whose last token is number t

    def body(state: _State) -> _State:
        return _advance(state, start, weights, norms, eos_id, allowed)

    def undecided(state: _State) -> jax.Array:
        # Scores are sums of negative numbers: a live one can at best keep its sum and reach the largest norm.
        reachable = jnp.max(state.weighted, axis=-1) / norms[-1]
        return (state.position < length - 1) & jnp.any(state.best.score < reachable)

    last = jax.lax.while_loop(undecided, body, _initial(start))
    n_tokens = jnp.maximum(last.position, 1)
    best = _better(last.best, last.tokens, last.weighted / norms[n_tokens - 1], last.log_prob / n_tokens)
    return best.tokens, best.mean


def _initial(start: Prefilled) -> _State:
    shape = start.tokens.shape[:3]
    # All beams start alike: only the first may be extended, or the beam would hold W copies of one hypothesis.
    weighted = jnp.broadcast_to(jnp.where(jnp.arange(shape[2]) == 0, 0.0, NEGATIVE), shape)
    lowest = jnp.full(shape[:2], -jnp.inf)
    return _State(
        position=jnp.int32(0),
        tokens=start.tokens,
        weighted=weighted,
        log_prob=jnp.zeros(shape),
        cache=start.cache,
        best=_Best(start.tokens[:, :, 0], lowest, lowest),
    )


def _advance(state: _State, start: Prefilled, weights, norms, eos_id: int, allowed) -> _State:
    """One token: hypotheses that end go to `best`, the W best of the others live on."""
    t = state.position  # number of the token generated now
    width = state.tokens.shape[2]
    last = jax.lax.dynamic_index_in_dim(state.tokens, t, axis=-1, keepdims=False)
    logits, cache = start.step(state.cache, last, t)
    gained = constrain(logits, allowed)
    # What is forbidden stays so however small the weight of a late token.
    weighted = state.weighted[..., None] + jnp.where(gained > NEGATIVE / 2, weights[t] * gained, NEGATIVE)
    log_prob = state.log_prob[..., None] + gained

    ended_tokens = jax.lax.dynamic_update_index_in_dim(state.tokens, jnp.full_like(last, eos_id), t + 1, axis=-1)
    best = _better(state.best, ended_tokens, weighted[..., eos_id] / norms[t], log_prob[..., eos_id] / (t + 1))

    vocabulary = weighted.shape[-1]
    alive = weighted.at[..., eos_id].set(2 * NEGATIVE).reshape(*weighted.shape[:2], -1)
    top, index = jax.lax.top_k(alive, width)
    source, token = index // vocabulary, (index % vocabulary).astype(jnp.int32)
    tokens = jax.lax.dynamic_update_index_in_dim(reorder(state.tokens, source), token, t + 1, axis=-1)
    return _State(
        position=t + 1,
        tokens=tokens,
        weighted=top,
        log_prob=jnp.take_along_axis(log_prob.reshape(alive.shape), index, axis=-1),
        cache=reorder(cache, source),
        best=best,
    )


def _better(best: _Best, tokens: jax.Array, score: jax.Array, mean: jax.Array) -> _Best:
    """`best`, or the best of W candidates (tokens [B, R, W, T], score and mean [B, R, W]) where that is higher."""
    winner = jnp.argmax(score, axis=-1, keepdims=True)
    top = jnp.take_along_axis(score, winner, axis=-1)[..., 0]
    chosen = jnp.take_along_axis(tokens, winner[..., None], axis=2)[:, :, 0]
    top_mean = jnp.take_along_axis(mean, winner, axis=-1)[..., 0]
    higher = top > best.score
    return _Best(
        tokens=jnp.where(higher[..., None], chosen, best.tokens),
        score=jnp.where(higher, top, best.score),
        mean=jnp.where(higher, top_mean, best.mean),
    )


def reorder(tree: Any, source: jax.Array) -> Any:
    """Every leaf [B, R, W, ...] with hypothesis `source[b, r, w]` at place w; leaves of fewer axes as they are."""

    def pick(leaf: jax.Array) -> jax.Array:
        if leaf.ndim < 3:
            return leaf
        return jnp.take_along_axis(leaf, source.reshape(source.shape + (1,) * (leaf.ndim - 3)), axis=2)

    return jax.tree.map(pick, tree)
