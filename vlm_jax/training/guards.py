"""The guard of a step: an update whose gradient is not finite, or out of all proportion, is not taken.

All of it happens on the device and inside the step: nothing is fetched, nothing waits. What was skipped is kept in the
state, so that a run that was killed decides as the unbroken one would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.config.schema import GuardConfig

REMEMBERED = 16
"""Skipped steps that the state remembers; `guard.max_skips` is below it."""
SHOWN = 8  # skipped steps, and records, that a line names
_LEAST_SPREAD = 0.5
"""Of the logarithms. Six of it are a factor of 20: where a model begins to see, its clean gradients grow five- to
tenfold within steps (docs/reference/robustness.md), and what a guard is for is larger by orders of magnitude."""
_TINY = 1e-12
_MAD_TO_DEVIATION = 1.4826
"""A normal distribution's deviation over its median absolute deviation (Hampel 1974)."""
_NONE = -1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GuardState:
    """What the guard remembers.

    Attributes:
      norms: float32[W], gradient norms of the last steps that were taken, in a ring. A batch in which nothing carries a
        task has none (its gradient is 0) and says nothing of the others.
      taken: int32[], how many norms the ring was given.
      skipped: int32[REMEMBERED], the last steps that were skipped (counted from 1), newest first; -1 = none.
      total: int32[], how many were skipped.
    """

    norms: Any
    taken: Any
    skipped: Any
    total: Any


def init_guard(config: GuardConfig) -> GuardState:
    """A guard that has seen nothing."""
    return GuardState(
        norms=jnp.zeros((config.window,), jnp.float32),
        taken=jnp.zeros((), jnp.int32),
        skipped=jnp.full((REMEMBERED,), _NONE, jnp.int32),
        total=jnp.zeros((), jnp.int32),
    )


def limit(guard: GuardState, config: GuardConfig) -> jax.Array:
    """float32[]: the largest norm that is taken: sigma deviations above the window's median, both of the logarithms.

    Norms vary by factors, so that deviations of the norms themselves would call an ordinary rise an outlier. Median and
    median absolute deviation bear bad steps that the window took before it was half full; until then the limit is
    infinite. The deviation is at least 0.5.
    """
    n = jnp.minimum(guard.taken, config.window)
    logs = jnp.where(jnp.arange(config.window) < n, jnp.log(jnp.maximum(guard.norms, _TINY)), jnp.nan)
    middle = jnp.nanmedian(logs)
    spread = _MAD_TO_DEVIATION * jnp.nanmedian(jnp.abs(logs - middle))
    bound = jnp.exp(middle + config.sigma * jnp.maximum(spread, _LEAST_SPREAD))
    return jnp.where((2 * n >= config.window) & (config.sigma > 0), bound, jnp.inf)


def judge(
    guard: GuardState, config: GuardConfig, loss: jax.Array, norm: jax.Array, step: jax.Array
) -> tuple[jax.Array, GuardState]:
    """(bool[]: the update is taken, the guard after it).

    Args:
      loss, norm: float32[], of the whole batch; the norm is that before clipping.
      step: int32[], steps before this one.
    """
    fine = jnp.isfinite(loss) & jnp.isfinite(norm) & (norm <= limit(guard, config))
    heard = fine & (norm > 0)
    place = guard.taken % config.window
    pushed = jnp.concatenate([jnp.asarray(step + 1, jnp.int32)[None], guard.skipped[:-1]])
    return fine, GuardState(
        norms=jnp.where(heard, guard.norms.at[place].set(norm), guard.norms),
        taken=guard.taken + heard,
        skipped=jnp.where(fine, guard.skipped, pushed),
        total=guard.total + ~fine,
    )


def choose(fine: jax.Array, update: Callable[[], Any], old: Any) -> Any:
    """`update()` where the update is taken, else `old`.

    A branch and not a selection leaf by leaf: that keeps the moments of before and of after at once, so that each is
    copied before it is overwritten, which took four per cent of a small model's memory traffic.
    """
    return jax.lax.cond(fine, update, lambda: old)


def too_many(guard: GuardState, config: GuardConfig, since: int) -> tuple[int, ...]:
    """More than `guard.max_skips` skipped steps within one `guard.window`, oldest first; () where there are none.

    Args:
      since: the step at which was looked last; what had come together by then was seen then.
    """
    skipped = sorted(int(s) for s in np.asarray(guard.skipped) if s != _NONE)
    ends = [s for s in skipped[config.max_skips :] if s > since]
    bursts = [tuple(s for s in skipped if end - config.window < s <= end) for end in ends]
    return next((burst for burst in reversed(bursts) if len(burst) > config.max_skips), ())


def offenders(rows_of_steps: dict[int, list[int]]) -> tuple[int, ...]:
    """The records to set aside: those in more than one skipped step, or all where none is.

    Args:
      rows_of_steps: {skipped step: the rows of its batch}.
    """
    counts: dict[int, int] = {}
    for rows in rows_of_steps.values():
        for row in set(rows):
            counts[row] = counts.get(row, 0) + 1
    again = [row for row, n in counts.items() if n > 1]
    return tuple(sorted(again or counts))
