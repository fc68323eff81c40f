"""What a training run stands on: work directory, mesh, data, model, state. Built once, in this order."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh

from vlm_jax.checkpoint.meta import Meta, versions
from vlm_jax.checkpoint.store import DIRECTORY, Store, complete_steps, read_meta
from vlm_jax.config import load as config_io
from vlm_jax.config.schema import Config
from vlm_jax.contract import LabelSpace
from vlm_jax.data.pipeline import check_divides
from vlm_jax.data.run_data import RunData
from vlm_jax.data.texts import train_descriptions
from vlm_jax.decoding.grammar import clauses_of
from vlm_jax.errors import UserError
from vlm_jax.evaluation.apart import USED, groups_of
from vlm_jax.models import build_model
from vlm_jax.parallel import distributed
from vlm_jax.parallel.mesh import make_mesh
from vlm_jax.tasks import LossContext
from vlm_jax.tasks.losses import class_balanced_weights, prior_log_odds
from vlm_jax.text.tokenizer import MASK, Tokenizer
from vlm_jax.training.optim import make_optimizer
from vlm_jax.training.state import TrainState, init_state
from vlm_jax.weights.init import initialise
from vlm_jax.weights.vocabulary import tokens_of

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

    def meta(
        self,
        metrics: dict[str, float],
        thresholds: dict[str, float | None],
        calibration: dict[str, tuple[float, float]] | None = None,
    ) -> Meta:
        """What is saved beside the arrays of this moment."""
        return Meta(
            config=self.config,
            labels=self.data.labels.names,
            tokenizer=self.data.tokenizer.to_json(),
            thresholds=thresholds,
            batches=int(self.state.step),
            quarantine=distributed.union(self.data.broken),
            sources=describe_sources(self.data),
            metrics=metrics,
            versions=versions(),
            calibration=calibration or {},
            clauses=self._clauses() if self.config.eval.grammar else (),
        )

    def _clauses(self) -> tuple[str, ...]:
        """What training descriptions are made of; landmarks are named alike in all sources."""
        names = [name.split("/", 1)[1] for name in self.data.labels.names]
        return clauses_of(train_descriptions(self.data.parts, self.data.splits), names)


def say(*lines: str) -> None:
    """Lines for the person, on stderr, from process 0 only."""
    if lines and jax.process_index() == 0:
        print(*lines, sep="\n", file=sys.stderr, flush=True)


def describe_sources(data: RunData) -> dict[str, dict[str, Any]]:
    """`Meta.sources`. The fingerprints of one source's data sets are joined in the order of `data.path`."""
    prints: dict[str, list[str]] = {}
    for part, fingerprint in zip(data.parts, data.fingerprints, strict=True):
        prints.setdefault(part.info.source, []).append(fingerprint)
    groups = {split: groups_of(data, split) for split in USED}
    return {
        name: {
            "world": info.world,
            "simulator": info.simulator,
            "licence": info.licence,
            "fingerprint": "+".join(prints[name]),
            "groups": {split: groups[split][name] for split in USED},
        }
        for name, info in data.sources.items()
    }


def check_config(config: Config, workdir: epath.Path) -> None:
    """A resumed run may differ only in steps, logging and cadence.

    Raises:
      UserError: the work directory was made with another configuration; names the keys that differ.
    """
    path = workdir / CONFIG_FILE
    if not path.exists():
        return
    keys = [k for k in config_io.diff(config_io.read(path), config) if not k.startswith(MAY_DIFFER)]
    if keys:
        raise UserError(
            f"{workdir} was started with another configuration ({', '.join(keys)} differ): "
            "use the same one, or another --workdir"
        )


def claim_workdir(config: Config, workdir: epath.Path) -> None:
    """Writes config.json. Comes last, so that a run that could not start leaves no claim behind."""
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        config_io.dump(config, workdir / CONFIG_FILE)
    distributed.barrier("work directory claimed")


def open_data(config: Config, workdir: epath.Path) -> RunData:
    """The run's data; a resumed run keeps the tokenizer and the label names of its checkpoint.

    Raises:
      UserError: the data are not those that the run was started with, or lack the labels that its tasks need.
    """
    directory = workdir / DIRECTORY
    steps = complete_steps(directory)
    if steps:
        meta = read_meta(directory / str(steps[-1]))
        data = RunData.open(config, Tokenizer.from_json(meta.tokenizer), LabelSpace(meta.labels))
        check_same_data(data, meta)
    else:
        data = RunData.open(config)
    if "landmarks" in config.tasks and not len(data.labels):
        raise UserError(
            "no landmarks in data.path: use configs/vlm.py:PRESET,tasks=describe+anticipate+report "
            "or add a source with labels"
        )
    return data


def check_same_data(data: RunData, meta: Meta) -> None:
    """UserError where a data set is not the one that the checkpoint was trained with."""
    for name, now in describe_sources(data).items():
        then = meta.sources.get(name, {})
        if then.get("fingerprint", now["fingerprint"]) != now["fingerprint"]:
            raise UserError(
                f"data changed since the run started (source {name}): bring back the data set it was started with, "
                "or use another --workdir"
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


def set_up(config: Config, workdir: epath.Path) -> Run:
    """Builds the run and resumes from the last complete checkpoint, if there is one.

    The checkpoints are opened, and the work directory is written to, when nothing else can fail any more.
    """
    check_config(config, workdir)
    mesh = make_mesh(config.parallel)
    check_divides(mesh, config.train.batch_size, "train.batch_size")
    check_divides(mesh, config.eval.batch_size, "eval.batch_size")
    data = open_data(config, workdir)
    model = build_model(config, len(data.labels), data.tokenizer.size)

    def tx_fn(params: Any) -> Any:
        return make_optimizer(config, params)

    state, abstract = init_state(config, model, tx_fn, mesh)
    tx = tx_fn(abstract.params)
    context = loss_context(config, data, model)
    say(*data.notices)
    if not complete_steps(workdir / DIRECTORY):
        state = start_from_weights(config, state, data)
    store = Store(workdir, keep_last=config.checkpoint.keep_last, keep_best=config.checkpoint.keep_best)
    run = Run(config, workdir, mesh, data, model, tx, context, abstract, state, store)
    try:
        restore_last(run)
        claim_workdir(config, workdir)
    except BaseException:
        store.close()  # else orbax's threads speak up when the interpreter ends
        raise
    return run


def start_from_weights(config: Config, state: TrainState, data: RunData) -> TrainState:
    """A fresh state with the parts that `model.<part>.init` names; a resumed run has them in its checkpoint.

    Raises:
      UserError: the weights do not fit the config.
    """
    params, notices = initialise(state.params, config, tokens_of(data.tokenizer.to_json()))
    say(*notices)
    if not notices:
        return state
    return state.replace(params=params, ema=None if state.ema is None else jax.tree.map(jnp.copy, params))


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
    say(f"resuming from step {steps[-1]} of {run.workdir}")
