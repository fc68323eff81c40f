"""Systems that are fitted once instead of trained by gradients; their checkpoints are like all others.

`vlm-jax train` on a system of `FIT_SYSTEMS` fits it and saves one step, with configuration, tokenizer, labels,
validation scores and thresholds. A second run finds the step and does nothing.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec

from vlm_jax.checkpoint.store import Store
from vlm_jax.config.schema import Config
from vlm_jax.data.run_data import RunData
from vlm_jax.models import build_model
from vlm_jax.parallel.mesh import make_mesh
from vlm_jax.parallel.partition import param_shardings
from vlm_jax.training.fit_hmm import fit_hmm
from vlm_jax.training.lock import WorkdirLock
from vlm_jax.training.provenance import open_data
from vlm_jax.training.run import Run, check_budget, loss_context, say, train_item
from vlm_jax.training.state import TrainState, with_shardings
from vlm_jax.training.validation import Validator
from vlm_jax.training.workdir import check_config, claim_workdir, hold_workdir, last_good_step
from vlm_jax.training.writers import MetricWriter

Fit = Callable[[Any, RunData, Config], tuple[dict[str, np.ndarray], list[str]]]
"""fit(model, data, config) -> (parameters as the model's init has them, what is said about the result, line by line).
Deterministic: every process fits for itself."""

FIT_SYSTEMS: dict[str, Fit] = {"hmm": fit_hmm}
"""Systems without gradients, by the name that config.system gives."""

STEP = 1
"""The one step that is saved."""


def fit(config: Config, place: epath.Path, lock: WorkdirLock) -> int:
    """Fits `config.system`, validates and saves it; returns the exit code 0.

    Raises:
      UserError: the work directory belongs to another configuration, or the data lack what the system needs.
    """
    lock.take()
    check_config(config, place)
    start = last_good_step(place)
    data = open_data(config, place, start)
    say(*data.notices)
    hold_workdir(config, place, lock, start)
    store = Store(place, keep_last=config.checkpoint.keep_last, keep_best=config.checkpoint.keep_best)
    with contextlib.closing(store):
        if start is not None:
            say(f"nothing to do: {place} holds a fitted {config.system}")
            return 0
        run = _fitted(config, place, data, store)
        claim_workdir(config, place)
        _save(run)
    where = shlex.quote(str(place))
    say(f"done: {config.system} is fitted; `vlm-jax evaluate --workdir {where} --split test` scores it")
    return 0


def _fitted(config: Config, place: epath.Path, data: RunData, store: Store) -> Run:
    """The run as the loop would hold it after its last step, without an optimiser."""
    mesh = make_mesh(config.parallel)
    model = build_model(config, len(data.labels), data.tokenizer.size)
    params, lines = FIT_SYSTEMS[config.system](model, data, config)
    say(*lines)
    shardings = param_shardings(mesh, params)
    # On the mesh like the parameters: of several processes' arrays orbax saves none that is one process's own.
    step, key = jax.device_put(
        (jnp.asarray(STEP, jnp.int32), jax.random.key_data(jax.random.key(config.seed))),
        NamedSharding(mesh, PartitionSpec()),
    )
    state = TrainState(step, jax.device_put(params, shardings), {}, None, key)
    abstract = state.replace(params=with_shardings(state.params, shardings))
    return Run(config, place, mesh, data, model, None, loss_context(config, data, model), abstract, state, store)


def _save(run: Run) -> None:
    validator = Validator(run)
    with jax.set_mesh(run.mesh):
        scores = validator(run.state.params)
        thresholds, calibration = validator.decisions(run.state.params)
    with contextlib.closing(MetricWriter(run.workdir, step=0, tensorboard=run.config.train.tensorboard)) as writer:
        writer.write(STEP, {f"validation/{name}": value for name, value in scores.items()})
    meta = run.meta(scores, thresholds, calibration)
    check_budget(run, meta.quarantine)
    run.store.save(STEP, params=run.state.params, ema=None, train=train_item(run.state), meta=meta)
    run.store.finish()
