"""`bench decode`: texts from images, to the last token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vlm_jax.bench.peers import load_peers
from vlm_jax.bench.results import OURS, result, timed_rows
from vlm_jax.bench.timing import interleave
from vlm_jax.bench.train import describe
from vlm_jax.bench.trial import Trial, make_trial
from vlm_jax.config.schema import Config
from vlm_jax.decoding.strategies import make_generate
from vlm_jax.errors import UserError

END = 2
"""The token that would end a text. It is forbidden, so that every text has its full length, on every side."""


def measure(config: Config, *, rounds: int, warmup: int, peers: list[str], beams: tuple[int, ...]) -> dict[str, Any]:
    """Times encoding and decoding of a batch: greedy, and beam search of each width in `beams`, beside the peers.

    Raises:
      UserError: a setting, or a peer that cannot run or computes something else.
    """
    trial = make_trial(config)
    if not trial.model.text_tasks:
        raise UserError("bench decode needs a task with texts; choose a config without tasks=landmarks")
    others = load_peers(peers, "decode", trial)
    calls: dict[str, Callable[[], Any]] = {OURS: _call(trial, 1)}
    calls |= {f"{OURS}, {beam} beams": _call(trial, beam) for beam in beams}
    tokens = np.asarray(calls[OURS]().tokens)[:, :, 1:]
    shares = {peer.name: check_tokens(peer, tokens) for peer in others}
    calls |= {peer.name: peer.call for peer in others}
    seconds = interleave(calls, rounds=rounds, warmup=warmup)
    texts = tokens.shape[0] * tokens.shape[1]
    extra: dict[str, dict[str, Any]] = {
        peer.name: {"same_tokens": shares[peer.name], "note": peer.note} for peer in others
    }
    for name in calls:
        if name.startswith(OURS) and name != OURS:
            extra[name] = {"over_greedy": float(np.median(seconds[name].wall) / np.median(seconds[OURS].wall))}
    setting = {**describe(config), "rounds": rounds, "warmup": warmup, "texts": texts, "tokens": tokens.shape[2]}
    return result("decode", setting, timed_rows(seconds, per_call=texts, unit="texts_per_second", extra=extra))


SAME_FIRST = 0.95
"""Share of the first tokens that must be ours: near ties of random weights are few there."""


def check_tokens(peer: Any, tokens: np.ndarray) -> float | None:
    """Share of the peer's tokens that are ours; None for another network. Random weights leave near ties: see peers."""
    if peer.outputs is None:
        return None
    theirs = peer.outputs()
    alike = float((theirs[:, :, 0] == tokens[:, :, 0]).mean())
    if alike < SAME_FIRST:
        raise UserError(f"{peer.name} computes something else: {alike:.0%} of its first tokens are ours")
    return float((theirs == tokens).mean())


def _call(trial: Trial, beam: int) -> Callable[[], Any]:
    generate = make_generate(
        trial.model,
        "greedy" if beam == 1 else "beam",
        length=trial.config.data.target_length,
        eos_id=END,
        task_ids=task_ids(trial),
        beam=beam,
        allowed=allowed(trial),
    )
    b = trial.batch
    image, frame_mask, prompt = (jax.device_put(x) for x in (b.image, b.frame_mask, b.prompt))
    return lambda: jax.block_until_ready(generate(trial.state.params, image, frame_mask, prompt))


def task_ids(trial: Trial) -> dict[str, int]:
    """A first token for each text task."""
    return {task: 3 + i for i, task in enumerate(trial.model.text_tasks)}


def allowed(trial: Trial) -> np.ndarray:
    """bool[n_tokens]: every word but padding and the end."""
    found = np.ones(trial.n_tokens, bool)
    found[[0, END]] = False
    return found
