"""What a training run stands on: work directory, mesh, data, model, state. Built once, in this order."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import jax
from etils import epath
from jax.sharding import Mesh

from vlm_jax.checkpoint.meta import Meta, versions
from vlm_jax.checkpoint.store import Store
from vlm_jax.config import load as config_io
from vlm_jax.config.schema import Config
from vlm_jax.data.run_data import RunData
from vlm_jax.errors import UserError
from vlm_jax.models import build_model
from vlm_jax.parallel.mesh import make_mesh
from vlm_jax.tasks import LossContext
from vlm_jax.tasks.losses import class_balanced_weights
from vlm_jax.text.tokenizer import Tokenizer
from vlm_jax.training.optim import make_optimizer
from vlm_jax.training.state import TrainState, init_state

CONFIG_FILE = "config.json"
# What may change between two runs in one work directory: how long, how often, how it is watched and where it runs.
MAY_DIFFER = (
    "train.steps",
    "train.log_every",
    "train.profile_steps",
    "train.tensorboard",
    "checkpoint.",
    "eval.",
    "parallel.",
    "data.threads",
    "data.prefetch",
)


@dataclass
class Run:
    """Everything that the loop needs; `state` is replaced step by step."""

    config: Config
    workdir: epath.Path
    mesh: Mesh
    data: RunData
    model: Any
    tx: Any
    context: LossContext
    abstract: TrainState
    state: TrainState
    store: Store
    resumed_from: int | None = None

    def meta(self, metrics: dict[str, float], thresholds: dict[str, float | None]) -> Meta:
        """What is saved beside the arrays of this moment."""
        sources = {name: {"world": info.world, "licence": info.licence} for name, info in self.data.sources.items()}
        return Meta(
            config=self.config,
            labels=self.data.labels.names,
            tokenizer=self.data.tokenizer.to_json(),
            thresholds=thresholds,
            batches=int(self.state.step),
            sources=sources,
            metrics=metrics,
            versions=versions(),
        )


def say(*lines: str) -> None:
    """Lines for the person, on stderr, from process 0 only."""
    if lines and jax.process_index() == 0:
        print(*lines, sep="\n", file=sys.stderr, flush=True)


def claim_workdir(config: Config, workdir: epath.Path) -> None:
    """Writes config.json, or checks it: a resumed run may differ only in steps, logging and cadence.

    Raises:
      UserError: the work directory was made with another configuration; names the keys that differ.
    """
    path = workdir / CONFIG_FILE
    if path.exists():
        keys = [k for k in config_io.diff(config_io.read(path), config) if not k.startswith(MAY_DIFFER)]
        if keys:
            raise UserError(
                f"{workdir} was started with another configuration ({', '.join(keys)} differ): "
                "use the same one, or another --workdir"
            )
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        config_io.dump(config, path)


def open_data(config: Config, store: Store) -> RunData:
    """The run's data; a resumed run keeps the tokenizer and the label names of its checkpoint."""
    steps = store.steps()
    if not steps:
        return RunData.open(config)
    from vlm_jax.checkpoint.store import read_meta
    from vlm_jax.contract import LabelSpace

    meta = read_meta(store.directory / str(steps[-1]))
    return RunData.open(config, Tokenizer.from_json(meta.tokenizer), LabelSpace(meta.labels))


def loss_context(config: Config, data: RunData, model: Any) -> LossContext:
    """What is static about the losses of this run."""
    weights = None
    if config.loss.landmarks == "class_balanced":
        positives, negatives = data.label_counts()
        weights = class_balanced_weights(positives, negatives, config.loss.class_balanced_beta)
    return LossContext(config.loss, tuple(model.text_tasks), data.tokenizer.size, weights)


def set_up(config: Config, workdir: epath.Path) -> Run:
    """Builds the run and resumes from the last complete checkpoint, if there is one."""
    claim_workdir(config, workdir)
    mesh = make_mesh(config.parallel)
    store = Store(workdir, keep_last=config.checkpoint.keep_last, keep_best=config.checkpoint.keep_best)
    data = open_data(config, store)
    say(*data.notices)
    model = build_model(config, len(data.labels), data.tokenizer.size)

    def tx_fn(params: Any) -> Any:
        return make_optimizer(config, params)

    state, abstract = init_state(config, model, tx_fn, mesh)
    tx = tx_fn(abstract.params)
    run = Run(config, workdir, mesh, data, model, tx, loss_context(config, data, model), abstract, state, store)
    restore_last(run)
    return run


def train_item(state: Any) -> dict[str, Any]:
    """The `train` item: what only training needs."""
    return {"opt_state": state.opt_state, "key": state.key, "step": state.step}


def restore_last(run: Run) -> None:
    """Resumes from the last complete step, strictly."""
    steps = run.store.steps()
    if not steps:
        return
    params, ema, train, _ = run.store.restore(
        steps[-1], params=run.abstract.params, ema=run.abstract.ema, train=train_item(run.abstract)
    )
    run.state = TrainState(train["step"], params, train["opt_state"], ema, train["key"])
    run.resumed_from = steps[-1]
    say(f"resuming from step {steps[-1]} of {run.workdir}")
