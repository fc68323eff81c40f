"""The training state: arrays only. What is static is built from the configuration."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vlm_jax.config.schema import Config
from vlm_jax.models import init_params
from vlm_jax.parallel.partition import param_name, param_shardings
from vlm_jax.training.guards import init_guard


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything that changes while training; its twins hold abstract arrays or shardings in the same places.

    Attributes:
      step: int32[], optimiser steps taken.
      params: float32 tree.
      opt_state: the optimiser's.
      ema: tree like params, or None.
      key: uint32[2], the root of every random stream; `fold_in(step)` makes a step's key.
      guard: `guards.GuardState`; None in systems that are fitted.
    """

    step: Any
    params: Any
    opt_state: Any
    ema: Any
    key: Any
    guard: Any = None

    def replace(self, **changes: Any) -> TrainState:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def inference_params(self) -> Any:
        """What evaluation uses: the moving average where there is one."""
        return self.params if self.ema is None else self.ema


def build_state(config: Config, model: Any, tx_fn: Any, key: jax.Array) -> TrainState:
    """A fresh state; pure, so that `jax.eval_shape` and `jax.jit` with out_shardings both take it.

    Args:
      config: the run's configuration.
      model: what `build_model` returned.
      tx_fn: params -> optimiser.
      key: a typed key from `config.seed`.
    """
    params = init_params(model, config, jax.random.fold_in(key, 0))
    if config.loss.weighting == "learned":
        params = {**params, "task_log_variance": jnp.zeros((len(config.tasks),), jnp.float32)}
    ema = jax.tree.map(jnp.copy, params) if config.optim.ema > 0 else None
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx_fn(params).init(params),
        ema=ema,
        key=jax.random.key_data(jax.random.fold_in(key, 1)),
        guard=init_guard(config.guard),
    )


def state_shardings(mesh: Mesh, abstract: TrainState) -> TrainState:
    """NamedShardings of every leaf: moments follow their parameter, counters are replicated.

    Without out_shardings from here `jit(tx.init)` leaves the moments on one device.
    """
    replicated = NamedSharding(mesh, PartitionSpec())
    params = param_shardings(mesh, abstract.params)
    by_name = {param_name(p): s for p, s in jax.tree_util.tree_flatten_with_path(params)[0]}

    def like_param(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        parts = param_name(path).split("/")
        for start in range(len(parts)):
            sharding = by_name.get("/".join(parts[start:]))
            if sharding is not None and leaf.ndim:
                return sharding
        return replicated

    return TrainState(
        step=replicated,
        params=params,
        ema=None if abstract.ema is None else params,
        key=replicated,
        opt_state=jax.tree_util.tree_map_with_path(like_param, abstract.opt_state),
        guard=jax.tree.map(lambda _: replicated, abstract.guard),
    )


def with_shardings(abstract: Any, shardings: Any) -> Any:
    """Abstract arrays that carry their sharding, as a restore wants them."""
    return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), abstract, shardings)


def abstract_state(config: Config, model: Any, tx_fn: Any, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the state; nothing is computed."""
    abstract = jax.eval_shape(lambda key: build_state(config, model, tx_fn, key), jax.random.key(config.seed))
    return with_shardings(abstract, state_shardings(mesh, abstract))


def fresh_state(config: Config, model: Any, tx_fn: Any, mesh: Mesh, abstract: TrainState) -> TrainState:
    """The state of a run's beginning, made on the mesh."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    # It runs once, in milliseconds, and has a loop to compile for each parameter: on a CPU that takes three fifths
    # of the time where LLVM leaves them as they are.
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    options = quick if mesh.devices.flat[0].platform == "cpu" else None
    with jax.set_mesh(mesh):
        build = jax.jit(
            lambda key: build_state(config, model, tx_fn, key), out_shardings=shardings, compiler_options=options
        )
        return build(jax.random.key(config.seed))


def update_ema(ema: Any, params: Any, decay: float, step: jax.Array) -> Any:
    """Exponential moving average with the warm-up of TensorFlow's: decay at most (1 + step) / (10 + step)."""
    step = step.astype(jnp.float32)
    rate = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return optax.incremental_update(params, ema, step_size=1.0 - rate)
