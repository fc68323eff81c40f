"""`make_generate`: a model and a strategy in, one jitted function out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.decoding import beam as beam_search
from vlm_jax.decoding import risk, sampling
from vlm_jax.decoding.generated import Generated
from vlm_jax.decoding.grammar import Grammar
from vlm_jax.decoding.prefill import Prefilled, prefill

Strategy = Literal["greedy", "beam", "mbr", "sample"]
GenerateFn = Callable[..., Generated]
SearchFn = Callable[[Prefilled, jax.Array | None], tuple[jax.Array, jax.Array]]


def make_generate(
    model: Any,
    strategy: Strategy = "greedy",
    *,
    length: int,
    eos_id: int,
    task_ids: Mapping[str, int],
    beam: int = 4,
    decay: float = 0.0,
    length_penalty: float = 1.0,
    samples: int = 16,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    allowed: np.ndarray | None = None,
    grammar: Grammar | None = None,
) -> GenerateFn:
    """Builds `fn(params, image, frame_mask, prompt, key=None) -> Generated`, compiled once a shape.

    Args:
      model: has `.text_tasks` (R names) and the methods `encode`, `init_cache`, `decode_step`.
      strategy: greedy, beam (`beam`, `decay`, `length_penalty`), mbr (`samples`, `temperature`) or sample
        (`temperature`, `top_k`, `top_p`, and a key).
      length: T, tokens written at most, task token and [EOS] included.
      eos_id: the token that ends a text. task_ids: first target token of each text task.
      grammar: an automaton that says what may follow what; None = no grammar.
      allowed: bool[V] or bool[R, V], True = may be emitted (`constraints.vocabulary_mask`); None = all.

    Raises:
      ValueError: an argument is out of its range.
    """
    _check(strategy, length, beam, decay, samples)
    task_tokens = np.array([task_ids[task] for task in model.text_tasks], np.int32)
    select = sampling.make_sampler(temperature, top_k, top_p) if strategy == "sample" else sampling.greedy

    def search(start: Prefilled, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        if strategy == "beam":
            return beam_search.search(start, eos_id=eos_id, allowed=allowed, decay=decay, length_penalty=length_penalty)
        if strategy == "sample" and key is None:
            raise ValueError("sampling needs a key: generate(params, image, frame_mask, prompt, key)")
        stream = jax.random.key(0) if key is None else key
        if strategy == "mbr":
            return risk.search(start, temperature=temperature, eos_id=eos_id, allowed=allowed, key=stream)
        tokens, scores = sampling.search(start, select, eos_id=eos_id, allowed=allowed, key=stream)
        return tokens[:, :, 0], scores[:, :, 0]

    return _compiled(model, search, task_tokens, {"beam": beam, "mbr": samples}.get(strategy, 1), length, grammar)


def _check(strategy: str, length: int, beam: int, decay: float, samples: int) -> None:
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy is {strategy!r}; expected one of {', '.join(get_args(Strategy))}")
    if length < 2 or beam < 1 or decay < 0 or samples < 1:
        raise ValueError(f"need length >= 2, beam, samples >= 1, decay >= 0; got {length}, {beam}, {samples}, {decay}")


def _compiled(
    model: Any, search: SearchFn, task_tokens: np.ndarray, width: int, length: int, grammar: Grammar | None
) -> GenerateFn:
    sizes = {"task_tokens": task_tokens, "width": width, "length": length, "grammar": grammar}

    @jax.jit
    def generate(params, image, frame_mask, prompt, key=None) -> Generated:
        start = prefill(model, params, image, frame_mask, prompt, **sizes)
        if len(task_tokens):
            tokens, scores = search(start, key)
        else:
            tokens, scores = start.tokens[:, :, 0], jnp.zeros((image.shape[0], 0))
        return Generated(start.landmark_logits, tokens, scores, start.region_logits)

    return generate
