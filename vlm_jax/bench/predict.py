"""`bench predict`: one frame in, labels or texts out, host to host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vlm_jax.bench.decode import END, allowed, task_ids
from vlm_jax.bench.results import OURS, result, timed_rows
from vlm_jax.bench.timing import interleave
from vlm_jax.bench.train import describe, with_batch
from vlm_jax.bench.trial import Trial, make_trial
from vlm_jax.config.schema import Config
from vlm_jax.decoding.strategies import make_generate


def measure(config: Config, *, rounds: int, warmup: int) -> dict[str, Any]:
    """Times one frame, uint8 in host memory, to landmark probabilities and to all texts in host memory."""
    trial = make_trial(with_batch(config, 1))
    calls = {f"{OURS}, labels": _labels(trial), f"{OURS}, labels and texts": _texts(trial)}
    calls = {name: call for name, call in calls.items() if call is not None}
    seconds = interleave(calls, rounds=rounds, warmup=warmup)
    setting = {**describe(trial.config), "rounds": rounds, "warmup": warmup}
    return result("predict", setting, timed_rows(seconds, per_call=1, unit="frames_per_second"))


def _labels(trial: Trial) -> Callable[[], Any] | None:
    if "landmarks" not in trial.config.tasks:
        return None
    b = trial.batch

    @jax.jit
    def label(params: Any, image: Any, frame_mask: Any, prompt: Any) -> Any:
        memory = trial.model.apply({"params": params}, image, frame_mask, prompt, method="encode")
        return jax.nn.sigmoid(memory.landmark_logits)

    return lambda: np.asarray(label(trial.state.params, b.image, b.frame_mask, b.prompt))


def _texts(trial: Trial) -> Callable[[], Any] | None:
    if not trial.model.text_tasks:
        return None
    length, b = trial.config.data.target_length, trial.batch
    generate = make_generate(trial.model, length=length, eos_id=END, task_ids=task_ids(trial), allowed=allowed(trial))
    return lambda: jax.device_get(generate(trial.state.params, b.image, b.frame_mask, b.prompt))
