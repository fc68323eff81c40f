"""What a training run stands on: work directory, mesh, data, model, state. Built once, in this order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh

from vlm_jax.checkpoint.meta import Meta, versions
from vlm_jax.checkpoint.store import Store
from vlm_jax.config.schema import Config
from vlm_jax.data.pipeline import check_divides, data_shard
from vlm_jax.data.run_data import RunData
from vlm_jax.data.texts import train_descriptions
from vlm_jax.decoding.grammar import clauses_of
from vlm_jax.errors import UserError
from vlm_jax.models import build_model
from vlm_jax.models.build import resolve_dtype, why_no_cudnn
from vlm_jax.parallel import distributed
from vlm_jax.parallel.mesh import make_mesh
from vlm_jax.tasks import LossContext
from vlm_jax.tasks.losses import class_balanced_weights, prior_log_odds
from vlm_jax.text.tokenizer import MASK
from vlm_jax.training.goodput import Ledger
from vlm_jax.training.lock import WorkdirLock
from vlm_jax.training.optim import make_optimizer
from vlm_jax.training.program import StepProgram, compiles_ahead
from vlm_jax.training.provenance import describe_sources, open_data
from vlm_jax.training.state import TrainState, abstract_state, fresh_state
from vlm_jax.training.workdir import check_config, claim_workdir, hold_workdir, last_good_step
from vlm_jax.weights.init import initialise
from vlm_jax.weights.vocabulary import tokens_of


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
    fresh: Callable[[], TrainState] | None = None  # the state of a run's beginning, made anew
    program: StepProgram | None = None  # None in systems that are fitted
    rollbacks: int = 0
    inherited: tuple[dict[str, Any], ...] = ()  # as in Meta

    def names(self, rows: Iterable[int]) -> list[str]:
        """The uids of records."""
        return [self.data.table.record(row, image=False).uid for row in rows]

    def meta(
        self,
        metrics: dict[str, float],
        thresholds: dict[str, float | None],
        calibration: dict[str, tuple[float, float]] | None = None,
    ) -> Meta:
        """What is saved beside the arrays of this moment; every process calls it at the same place."""
        left_out = distributed.union([*self.data.broken, *self.data.set_aside])
        why = {row: self.data.set_aside.get(row, UNREADABLE) for row in left_out}
        return Meta(
            config=self.config,
            labels=self.data.labels.names,
            tokenizer=self.data.tokenizer.to_json(),
            thresholds=thresholds,
            batches=int(self.state.step),
            quarantine=left_out,
            set_aside=dict(zip(self.names(why), why.values(), strict=True)),
            rollbacks=self.rollbacks,
            sources=describe_sources(self.data),
            inherited=self.inherited,
            metrics=metrics,
            versions=versions(),
            calibration=calibration or {},
            clauses=self._clauses() if self.config.eval.grammar else (),
        )

    def _clauses(self) -> tuple[str, ...]:
        """What training descriptions are made of; landmarks are named alike in all sources."""
        names = [name.split("/", 1)[1] for name in self.data.labels.names]
        return clauses_of(train_descriptions(self.data.parts, self.data.splits), names)


UNREADABLE = "unreadable"


def check_budget(run: Run, rows: tuple[int, ...]) -> None:
    """UserError where more training records are left out than `guard.budget` allows."""
    training = set(run.data.records("train").rows.tolist())
    n, left_out = len(training), len(training.intersection(rows))
    if left_out > run.config.guard.budget * n:
        raise UserError(
            f"{left_out} of {n} training records are unreadable or set aside, more than guard.budget="
            f"{run.config.guard.budget:g} allows: `vlm-jax data check DIR` names the unreadable ones. Raise "
            "guard.budget, and the same command goes on from what was saved; mended data need another --workdir"
        )


def say(*lines: str) -> None:
    """Lines for the person, on stderr, from process 0 only."""
    if lines and jax.process_index() == 0:
        print(*lines, sep="\n", file=sys.stderr, flush=True)


def where_it_runs(config: Config, mesh: Mesh) -> Iterator[str]:
    """A line or two: a GPU that JAX does not see would else cost a night."""
    device = mesh.devices.flat[0]
    kind = "" if device.device_kind.lower() == device.platform else f" ({device.device_kind})"
    hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    yield (
        f"training on {mesh.size} {device.platform.upper()} device{'s' if mesh.size > 1 else ''}{kind}{hosts}, "
        f"activations in {resolve_dtype(config.model.dtype)}"
    )
    if config.model.attention == "cudnn" and (why := why_no_cudnn(config)):
        yield f"model.attention=cudnn needs a GPU and bfloat16, and {why}: attention goes without the fused kernel"


def make_checked_mesh(config: Config) -> Mesh:
    """The run's mesh.

    Raises:
      UserError: batches do not divide among it, or it cannot be; nothing has been written yet.
    """
    mesh = make_mesh(config.parallel)
    check_divides(mesh, config.train.batch_size, "train.batch_size")
    # A micro-batch that does not divide would be computed whole by every device, without a word.
    check_divides(mesh, config.train.batch_size // config.optim.accumulate, "train.batch_size / optim.accumulate")
    check_divides(mesh, config.eval.batch_size, "eval.batch_size")
    data_shard(mesh, jax.process_index())  # refuses tensor across hosts
    return mesh


def open_store(config: Config, workdir: epath.Path) -> Store:
    """The run's checkpoints, kept as its configuration says."""
    kept = config.checkpoint
    return Store(
        workdir, keep_last=kept.keep_last, keep_best=kept.keep_best, every=kept.every, window=config.guard.window
    )


def loss_context(config: Config, data: RunData, model: Any) -> LossContext:
    """What is static about the losses of this run."""
    weights = odds = None
    if config.loss.logit_adjustment:
        odds = prior_log_odds(*data.label_counts())
    if config.loss.landmarks == "class_balanced":
        positives, negatives = data.label_counts()
        weights = class_balanced_weights(positives, negatives, config.loss.class_balanced_beta)
    tokenizer = data.tokenizer
    return LossContext(
        config.loss, tuple(model.text_tasks), tokenizer.size, weights, odds, tokenizer.id(MASK), tokenizer.special_ids
    )


def set_up(
    config: Config,
    workdir: epath.Path,
    lock: WorkdirLock | None = None,
    ledger: Ledger | None = None,
    *,
    ahead: bool = False,
) -> Run:
    """Builds the run and resumes from the last complete checkpoint, if there is one.

    The checkpoints are opened, and the work directory is written to, when nothing else can fail any more.

    Args:
      lock: of the work directory, taken here and released by the caller; without one, nobody is kept out.
      ahead: for a caller that will step: the step compiles meanwhile, where it can.
    """
    if lock is not None:
        lock.take()
    check_config(config, workdir)
    mesh = make_checked_mesh(config)
    start = last_good_step(workdir)
    data = open_data(config, workdir, start)
    model = build_model(config, len(data.labels), data.tokenizer.size)

    def tx_fn(params: Any) -> Any:
        return make_optimizer(config, params)

    abstract = abstract_state(config, model, tx_fn, mesh)

    def begin() -> tuple[TrainState, tuple[dict[str, Any], ...]]:
        return start_from_weights(config, fresh_state(config, model, tx_fn, mesh, abstract), data)

    tx = tx_fn(abstract.params)
    context = loss_context(config, data, model)
    program = StepProgram.of(config, model, tx, context, mesh, abstract, len(data.labels))
    say(*data.notices, *where_it_runs(config, mesh))
    if ahead and compiles_ahead(config, start):
        program.begin()
    state, inherited = begin() if start is None else (abstract, ())  # restored below
    hold_workdir(config, workdir, lock, start)
    store = open_store(config, workdir)
    run = Run(config, workdir, mesh, data, model, tx, context, abstract, state, store, lambda: begin()[0], program)
    run.inherited = inherited
    try:
        with (ledger or Ledger()).phase("restore"):
            restore_last(run, start)
        claim_workdir(config, workdir)
    except BaseException:
        store.close()  # else orbax's threads speak up when the interpreter ends
        raise
    return run


def start_from_weights(
    config: Config, state: TrainState, data: RunData
) -> tuple[TrainState, tuple[dict[str, Any], ...]]:
    """A fresh state with what `train.start_from` and `model.<part>.init` name, and what these had learned from.

    A resumed run has both in its checkpoint.

    Raises:
      UserError: the weights do not fit the config.
    """
    words = tokens_of(data.tokenizer.to_json())
    params, notices, learned_from = initialise(state.params, config, words, data.labels.names)
    say(*notices)
    if not notices:
        return state, ()
    ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
    return state.replace(params=params, ema=ema), learned_from


def train_item(state: Any) -> dict[str, Any]:
    """The `train` item: what only training needs."""
    item = {"opt_state": state.opt_state, "key": state.key, "step": state.step}
    return item if state.guard is None else item | {"guard": state.guard}


def restore_last(run: Run, step: int | None) -> None:
    """Resumes from a step that was read back, strictly; None is a fresh run."""
    if step is None:
        return
    params, ema, train, meta = run.store.restore(
        step, params=run.abstract.params, ema=run.abstract.ema, train=train_item(run.abstract), read_back=True
    )
    run.state = TrainState(train["step"], params, train["opt_state"], ema, train["key"], train.get("guard"))
    uids = run.names(meta.quarantine)
    run.data.set_aside = {r: meta.set_aside.get(u, UNREADABLE) for r, u in zip(meta.quarantine, uids, strict=True)} | (
        run.data.set_aside
    )
    check_budget(run, tuple(run.data.set_aside))
    run.rollbacks = max(run.rollbacks, meta.rollbacks)
    run.inherited = meta.inherited
    say(f"resuming from step {step} of {run.workdir}")
