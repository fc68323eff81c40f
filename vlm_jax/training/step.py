"""The one jitted step: losses of all tasks over a global batch, gradients, update."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vlm_jax.config.schema import Config, LossConfig
from vlm_jax.contract import PRETRAIN_TASKS, Batch
from vlm_jax.data.augment import augment, augment_regions
from vlm_jax.parallel.partition import batch_sharding
from vlm_jax.tasks import TASK_TABLE, LossContext, hide
from vlm_jax.training.batch_norm import apply_in_training, overwrite, running
from vlm_jax.training.guards import choose, judge
from vlm_jax.training.optim import trainable_norm
from vlm_jax.training.state import TrainState, update_ema

Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def task_weights(loss: LossConfig, tasks: tuple[str, ...]) -> dict[str, float]:
    """Fixed weight of each enabled task; an objective of pre-training stands alone and has none to set."""
    return {name: 1.0 if name in PRETRAIN_TASKS else getattr(loss, f"{name}_weight") for name in tasks}


def combine(
    means: Metrics,
    loss: LossConfig,
    log_variance: jax.Array | None,
    share: float = 1.0,
    counts: Metrics | None = None,
) -> jax.Array:
    """Total loss. Learned weighting: sum of exp(-s) L + s / 2 with s = log sigma^2 (Kendall et al. 2018, eq. 10).

    `share` is a micro-batch's part of the s / 2, so that the parts of a batch add up to one. A task of which the batch
    holds nothing (`counts`) leaves its s alone.
    """
    weights = task_weights(loss, tuple(means))
    if log_variance is None:
        return sum((weights[n] * value for n, value in means.items()), start=jnp.zeros(()))
    terms = [
        weights[n] * (jnp.exp(-s) * value + (share * s / 2 if counts is None else share * s / 2 * (counts[n] > 0)))
        for (n, value), s in zip(means.items(), log_variance, strict=True)
    ]
    return jnp.stack(terms).sum()


def make_loss(model: Any, config: Config, context: LossContext) -> Callable[..., tuple[jax.Array, Any]]:
    """loss(params, batch, counts, key) -> (scalar, (means, states, statistics)), with dropout drawn from the key.

    `counts` are the terms of each task over the whole batch, so that the losses and gradients of micro-batches and
    shards add up to those of the whole. `statistics` are the running ones of batch norms after this pass.
    """

    share = 1.0 / config.optim.accumulate

    def loss(params: Any, batch: Batch, counts: Metrics, key: jax.Array) -> tuple[jax.Array, Any]:
        inputs = (batch.image, batch.frame_mask, batch.prompt, batch.target)
        outputs, statistics = apply_in_training(model, params, config.optim.freeze, *inputs, rngs={"dropout": key})
        means, states = {}, {}
        for name in config.tasks:
            total, states[name] = TASK_TABLE[name].loss_sum(outputs, batch, context)
            means[name] = total / jnp.maximum(counts[name], 1.0)
        return combine(means, config.loss, params.get("task_log_variance"), share, counts), (means, states, statistics)

    return loss


def _counts(config: Config, batch: Batch) -> Metrics:
    return {name: TASK_TABLE[name].count(batch) for name in config.tasks}


def micro_batches(batch: Batch, n: int) -> Batch:
    """[B, ...] -> [n, B / n, ...]; micro-batch i takes rows i, i + n, ... so that shards stay where they are."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] // n, n, *x.shape[1:]).swapaxes(0, 1), batch)


def accumulate_gradients(loss: Any, params: Any, batch: Batch, counts: Metrics, key: jax.Array, n: int) -> Any:
    """((loss, (means, states, statistics)), gradients) of the whole batch, by a scan over n micro-batches.

    Each micro-batch is normalised by its own statistics, and the running ones pass from one to the next (as in torch).
    """
    gradient = jax.value_and_grad(loss, has_aux=True)
    if n == 1:
        return gradient(params, batch, counts, key)
    parts = micro_batches(batch, n)
    first = jax.tree.map(lambda x: x[0], parts)
    shapes = _split(jax.eval_shape(gradient, params, first, counts, key))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes[0])

    def add(carry: Any, inputs: Any) -> tuple[Any, None]:
        total, statistics = carry
        part, index = inputs
        value = gradient(overwrite(params, statistics), part, counts, jax.random.fold_in(key, index))
        value, statistics = _split(value)
        return (jax.tree.map(jnp.add, total, value), statistics), None

    start = (zeros, running(params, shapes[1]))
    (total, statistics), _ = jax.lax.scan(add, start, (parts, jnp.arange(n)))
    (value, (means, states)), gradients = total
    return (value, (means, states, statistics)), gradients


def _split(value: Any) -> tuple[Any, Any]:
    """What adds up over micro-batches, and the running statistics, which do not."""
    (loss, (means, states, statistics)), gradients = value
    return ((loss, (means, states)), gradients), statistics


def make_train_step(
    model: Any,
    tx: optax.GradientTransformation,
    config: Config,
    context: LossContext,
    mesh: Mesh,
    shardings: TrainState,
    schedule: optax.Schedule,
) -> TrainStep:
    """Compiles lazily to one program over the mesh; the state is donated.

    Metrics: `loss`, `grad_norm`, `lr` (of this update: updates that were not taken do not count in the schedule),
    `skipped` (updates that the guard did not take so far), `loss/<task>` and each task's own (means over the global
    batch).
    """
    loss = make_loss(model, config, context)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        augment_key, dropout_key, hide_key = jax.random.split(key, 3)
        batch = dataclasses.replace(batch, image=augment(augment_key, jnp.asarray(batch.image), config.augment))
        if batch.regions is not None:
            moved = augment_regions(augment_key, jnp.asarray(batch.regions), config.augment)
            batch = dataclasses.replace(batch, regions=moved)
        batch = hide(hide_key, batch, config.tasks, context)
        counts = _counts(config, batch)
        (value, (means, states, statistics)), gradients = accumulate_gradients(
            loss, state.params, batch, counts, dropout_key, config.optim.accumulate
        )
        norm = trainable_norm(gradients, config.optim.freeze)
        fine, guard = judge(state.guard, config.guard, value, norm, state.step)

        def update() -> tuple[Any, Any, Any]:
            updates, opt_state = tx.update(gradients, state.opt_state, state.params)
            params = overwrite(optax.apply_updates(state.params, updates), statistics)
            if state.ema is None:
                return params, opt_state, None
            ema = update_ema(state.ema, params, config.optim.ema, state.step)
            return params, opt_state, overwrite(ema, statistics)

        params, opt_state, ema = choose(fine, update, (state.params, state.opt_state, state.ema))
        metrics = {"loss": value, "grad_norm": norm, "skipped": guard.total}
        metrics["lr"] = schedule(state.step - state.guard.total)
        metrics |= flat_metrics(means, states)
        new = state.replace(step=state.step + 1, params=params, opt_state=opt_state, ema=ema, guard=guard)
        return new, metrics

    rows = batch_sharding(mesh)
    replicated = NamedSharding(mesh, PartitionSpec())
    return jax.jit(step, donate_argnums=0, in_shardings=(shardings, rows), out_shardings=(shardings, replicated))


def flat_metrics(means: Metrics, states: dict[str, Any]) -> Metrics:
    """`loss/<task>` and `<metric>/<task>` as scalars."""
    flat = {f"loss/{name}": value for name, value in means.items()}
    for name, state in states.items():
        flat |= {f"{key}/{name}": s / jnp.maximum(n, 1.0) for key, (s, n) in state.items() if key != "loss"}
    return flat


def make_eval_step(model: Any, config: Config, context: LossContext, mesh: Mesh) -> Callable[[Any, Batch], Any]:
    """eval(params, batch) -> {task: metric state}, teacher-forced and not augmented; replicated on all processes."""

    def step(params: Any, batch: Batch) -> Any:
        batch = hide(jax.random.key(0), batch, config.tasks, context)  # the same in every validation
        outputs = model.apply({"params": params}, batch.image, batch.frame_mask, batch.prompt, batch.target)
        return {name: TASK_TABLE[name].loss_sum(outputs, batch, context)[1] for name in config.tasks}

    return jax.jit(step, out_shardings=NamedSharding(mesh, PartitionSpec()))


def make_label_step(model: Any, mesh: Mesh) -> Callable[[Any, Batch], Any]:
    """label(params, batch) -> (probabilities f32[B, C], labels [B, C], known bool[B, C]), replicated.

    Only encodes: nothing is decoded. `known` is False in padded and broken rows.
    """

    def step(params: Any, batch: Batch) -> Any:
        memory = model.apply({"params": params}, batch.image, batch.frame_mask, batch.prompt, method="encode")
        known = batch.landmarks_mask & (batch.valid & batch.task_mask[:, 0])[:, None]
        return jax.nn.sigmoid(memory.landmark_logits), batch.landmarks, known

    return jax.jit(step, out_shardings=NamedSharding(mesh, PartitionSpec()))
