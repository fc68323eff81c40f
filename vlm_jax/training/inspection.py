"""What a configuration means before any of it is trained: sizes, shardings, bytes, FLOPs. Allocates nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vlm_jax.config.schema import Config
from vlm_jax.contract import Batch
from vlm_jax.data.pipeline import check_divides
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, parameter_table
from vlm_jax.parallel.collectives import collectives
from vlm_jax.parallel.mesh import make_mesh
from vlm_jax.parallel.partition import left_whole, param_name
from vlm_jax.tasks import LossContext
from vlm_jax.training.fit import FIT_SYSTEMS
from vlm_jax.training.optim import make_optimizer
from vlm_jax.training.program import StepProgram, abstract_batch
from vlm_jax.training.state import TrainState, build_state, state_shardings, with_shardings

DEFAULT_LANDMARKS = 20
"""Labels of the embedded simulator: what a model is built for where no data is given."""


@dataclass(frozen=True)
class Subject:
    """A run as it would be built: abstract arrays on a mesh.

    Attributes:
      abstract: the training state; leaves carry shape, dtype and sharding.
      n_landmarks: C.
      n_tokens: the tokenizer's size.
    """

    config: Config
    mesh: Mesh
    model: Any
    abstract: TrainState
    n_landmarks: int
    n_tokens: int


def sizes(config: Config) -> tuple[int, int]:
    """(C, tokenizer size): from the data where a path is given, else the simulator's and `data.vocab_size`."""
    if config.data.path:
        from vlm_jax.training.provenance import open_fresh

        data = open_fresh(config)
        return len(data.labels), data.tokenizer.size
    vocabulary = config.data.vocab_size
    return DEFAULT_LANDMARKS, min(vocabulary, config.model.vocab_size or vocabulary)


def make_subject(config: Config, devices: Sequence[Any] | None = None) -> Subject:
    """Builds the run's shapes with eval_shape only, on a mesh of `devices` (default: all there are)."""
    n_landmarks, n_tokens = sizes(config)
    model = build_model(config, n_landmarks, n_tokens)
    mesh = make_mesh(config.parallel, devices)
    abstract = jax.eval_shape(
        lambda key: build_state(config, model, lambda params: make_optimizer(config, params), key),
        jax.random.key(config.seed),
    )
    abstract = with_shardings(abstract, state_shardings(mesh, abstract))
    return Subject(config, mesh, model, abstract, n_landmarks, n_tokens)


def inspect_run(config: Config, *, compile_step: bool = False) -> dict[str, Any]:
    """All figures as plain JSON values.

    Keys: name, system, parameters, parts {part: count}, flops_per_example (forward pass, teacher-forced),
    bytes_per_device (parameters, optimiser and moving average), mesh {axis: size}, shardings [{name, shape, spec,
    bytes}], left_whole {undivided, by rule} (names; `partition.left_whole`), batch {field: [shape, dtype]}; with
    `compile_step` also compiled {temporary, arguments, peak} in bytes, and collectives [{kind, devices, count, bytes}]:
    what a device sends in one step, by kind and size of the group.

    Raises:
      UserError: `compile_step` of a system that is fitted and has no training step.
    """
    if compile_step and config.system in FIT_SYSTEMS:
        raise UserError(f"{config.system} is fitted, not trained: it has no step to compile; leave out --compile")
    subject = make_subject(config)
    parts = parameter_table(subject.abstract.params)
    total = parts.pop("total")
    batch = abstract_batch(config, config.train.batch_size, subject.n_landmarks)
    report: dict[str, Any] = {
        "name": config.name,
        "system": config.system,
        "parameters": total,
        "parts": parts,
        "flops_per_example": flops_per_example(subject),
        "bytes_per_device": bytes_per_device(subject.abstract),
        "mesh": dict(subject.mesh.shape),
        "shardings": shardings(subject.abstract.params),
        "left_whole": left_whole(subject.mesh, subject.abstract.params),
        "batch": {
            field.name: [list(leaf.shape), leaf.dtype.name]
            for field in dataclasses.fields(batch)
            for leaf in [getattr(batch, field.name)]
            if leaf is not None
        },
    }
    if compile_step:
        compiled = compile_train_step(subject, batch)
        report["compiled"] = compiled_memory(compiled)
        report["collectives"] = collective_table(compiled)
    return report


def flops_per_example(subject: Subject) -> int:
    """Floating-point operations of one forward pass, as XLA counts them before it optimises.

    Layers are counted unrolled: XLA counts the body of a scan once, however often it runs.
    """
    model = dataclasses.replace(subject.config.model, scan_layers=False, remat=False)
    config = dataclasses.replace(subject.config, model=model)
    unrolled = build_model(config, subject.n_landmarks, subject.n_tokens)
    params = jax.eval_shape(
        lambda key: build_state(config, unrolled, lambda p: make_optimizer(config, p), key).params, jax.random.key(0)
    )
    batch = abstract_batch(config, 1, subject.n_landmarks)

    def forward(p: Any, b: Batch) -> Any:
        return unrolled.apply({"params": p}, b.image, b.frame_mask, b.prompt, b.target)

    cost = jax.jit(forward).lower(params, batch).cost_analysis()
    return int(cost["flops"]) if cost else 0


def bytes_per_device(abstract: TrainState) -> int:
    """Bytes of the training state (parameters, optimiser, moving average) on the fullest device."""
    return sum(_shard_bytes(leaf) for leaf in jax.tree.leaves(abstract))


def shardings(params: Any) -> list[dict[str, Any]]:
    """One row a parameter: name, shape, partition spec, bytes on a device."""
    return [
        {
            "name": param_name(path),
            "shape": list(leaf.shape),
            "spec": [list(axis) if isinstance(axis, tuple) else axis for axis in leaf.sharding.spec],
            "bytes": _shard_bytes(leaf),
        }
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    ]


def compile_train_step(subject: Subject, batch: Batch) -> Any:
    """The training step, compiled for the subject's mesh and a batch of these shapes.

    Raises:
      UserError: the batch does not divide among the mesh.
    """
    config = subject.config
    check_divides(subject.mesh, len(batch.uid), "train.batch_size")
    weights = jnp.ones((2, subject.n_landmarks)) if config.loss.landmarks == "class_balanced" else None
    odds = jnp.zeros(subject.n_landmarks) if config.loss.logit_adjustment else None
    context = LossContext(config.loss, tuple(subject.model.text_tasks), subject.n_tokens, weights, odds)
    tx = make_optimizer(config, subject.abstract.params)
    model, mesh, abstract = subject.model, subject.mesh, subject.abstract
    return StepProgram.of(config, model, tx, context, mesh, abstract, subject.n_landmarks).compiled(batch)


def compiled_memory(compiled: Any) -> dict[str, int]:
    """Bytes of a compiled training step on a device: temporaries, arguments, and their sum as the peak."""
    memory = compiled.memory_analysis()
    temporary, arguments = int(memory.temp_size_in_bytes), int(memory.argument_size_in_bytes)
    return {"temporary": temporary, "arguments": arguments, "peak": temporary + arguments}


def collective_table(compiled: Any) -> list[dict[str, Any]]:
    """One row for each kind of collective and size of its groups: how many run in a step, and bytes a device sends."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for one in collectives(compiled.as_text()):
        start = {"kind": one.kind, "devices": one.size, "count": 0, "bytes": 0.0}
        row = rows.setdefault((one.kind, one.size), start)
        row["count"] += one.times
        row["bytes"] += one.sent
    return [row | {"bytes": round(row["bytes"])} for _, row in sorted(rows.items())]


def _shard_bytes(leaf: Any) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
