"""Before the loop: image and prompts are encoded once, and their keys and values projected once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.decoding.grammar import Grammar, mask_logits, step_states


@dataclass(frozen=True)
class Prefilled:
    """What the loop starts from. B batch, R text tasks, W beams, T target length.

    Attributes:
      landmark_logits: f32[B, C] or None.
      tokens: int32[B, R, W, T], zeros but for the task's token in front.
      cache: the decoder's empty cache; every array leaf starts with [B, R, W].
      step: fn(cache, tokens int32[B, R, W], position int32[]) -> (logits f32[B, R, W, V], cache).
      region_logits: f32[B, h, w, C] or None.
    """

    landmark_logits: jax.Array | None
    tokens: jax.Array
    cache: Any
    step: Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, Any]]
    region_logits: jax.Array | None = None


def prefill(
    model,
    params,
    image,
    frame_mask,
    prompt,
    *,
    task_tokens: np.ndarray,
    width: int,
    length: int,
    grammar: Grammar | None = None,
) -> Prefilled:
    """Encodes a batch and lays out tokens and cache.

    Args:
      model: has `encode`, `init_cache` and `decode_step` (`vlm_jax.models.vlm.Vlm`).
      params: nested dict of parameters.
      image: uint8[B, F, H, W, 3]. frame_mask: bool[B, F]. prompt: int32[B, K, S].
      task_tokens: int32[R], the first target token of each text task.
      width: W. length: T.
      grammar: what may follow what; its states travel in the cache, with the hypothesis that they belong to.
    """
    variables = {"params": params}
    memory = model.apply(variables, image, frame_mask, prompt, method="encode")
    regions = getattr(memory, "region_logits", None)  # the baselines' memories have no places
    shape = (image.shape[0], len(task_tokens), width, length)
    tokens = jnp.zeros(shape, jnp.int32).at[..., 0].set(jnp.asarray(task_tokens, jnp.int32)[None, :, None])
    cache = model.apply(variables, memory, width, length, method="init_cache") if len(task_tokens) else None

    def step(cache, tokens, position):
        return model.apply(variables, memory, cache, tokens, position, method="decode_step")

    if grammar is None or cache is None:
        return Prefilled(memory.landmark_logits, tokens, cache, step, regions)
    table = jnp.asarray(grammar.table)

    def step_within(cache, tokens, position):
        inner, states = cache
        logits, inner = step(inner, tokens, position)
        states = step_states(table, states, tokens, position)
        return mask_logits(logits, table, states), (inner, states)

    states = jnp.broadcast_to(jnp.asarray(grammar.starts(model.text_tasks))[None, :, None], shape[:3])
    return Prefilled(memory.landmark_logits, tokens, (cache, states), step_within, regions)
