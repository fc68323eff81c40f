"""The step as a compiled program: of which shapes, and compiled while the state is made.

For most of a start, making the state (a program for all initial values) and compiling the step keep one core each.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vlm_jax.config.parts import asks_for_places
from vlm_jax.config.schema import Config
from vlm_jax.contract import TASKS, Batch
from vlm_jax.parallel.partition import batch_sharding
from vlm_jax.tasks import LossContext
from vlm_jax.training.optim import make_schedule
from vlm_jax.training.state import TrainState, state_shardings
from vlm_jax.training.step import TrainStep, make_train_step
from vlm_jax.weights.init import PARTS


def abstract_batch(config: Config, size: int, n_landmarks: int) -> Batch:
    """Shapes and dtypes of one global batch of `size` records."""

    def array(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct((size, *shape), dtype)

    k, data = len(TASKS), config.data
    return Batch(
        image=array(jnp.uint8, data.frames, data.image_size, data.image_size, 3),
        frame_mask=array(jnp.bool_, data.frames),
        landmarks=array(jnp.int8, n_landmarks),
        landmarks_mask=array(jnp.bool_, n_landmarks),
        prompt=array(jnp.int32, k, data.prompt_length),
        target=array(jnp.int32, k, data.target_length),
        task_mask=array(jnp.bool_, k),
        valid=array(jnp.bool_),
        uid=array(jnp.int32),
        regions=array(jnp.uint8, data.image_size, data.image_size) if asks_for_places(config) else None,
    )


@dataclass
class StepProgram:
    """The training step of a model on a mesh.

    Attributes:
      step: jitted; state and batch -> state and metrics.
      abstract: the training state; leaves carry shape, dtype and sharding.
      batch: as `abstract_batch` gives it.
    """

    step: TrainStep
    mesh: Mesh
    abstract: TrainState
    batch: Batch
    _begun: Future[Any] | None = None

    @classmethod
    def of(
        cls,
        config: Config,
        model: Any,
        tx: optax.GradientTransformation,
        context: LossContext,
        mesh: Mesh,
        abstract: TrainState,
        n_landmarks: int,
    ) -> StepProgram:
        """The step of these parts for batches of `train.batch_size`; nothing is compiled."""
        schedule = make_schedule(config.optim, config.train.steps)
        step = make_train_step(model, tx, config, context, mesh, state_shardings(mesh, abstract), schedule)
        return cls(step, mesh, abstract, abstract_batch(config, config.train.batch_size, n_landmarks))

    def begin(self) -> None:
        """Compiles in a thread of its own; what fails there is raised by `compiled`."""
        threads = ThreadPoolExecutor(1, "step")
        self._begun = threads.submit(self._compile, self.batch)
        threads.shutdown(wait=False)

    def compiled(self, batch: Batch) -> Any:
        """The program for a batch of these shapes, arrays or abstract."""
        if self._begun and _shapes(batch) == _shapes(self.batch):
            return self._begun.result()
        return self._compile(batch)

    def _compile(self, batch: Batch) -> Any:
        rows = batch_sharding(self.mesh)
        placed = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=rows), batch)
        with jax.set_mesh(self.mesh):
            return self.step.lower(self.abstract, placed).compile()  # pyright: ignore[reportFunctionMemberAccess]


def _shapes(batch: Batch) -> list[tuple[Any, Any]]:
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(batch)]


def compiles_ahead(config: Config, start: int | None) -> bool:
    """Whether the step is compiled before the state is there.

    Not where there is nothing to do, nor where the state starts from weights and may yet be refused: a message would
    wait for the compiler. Several processes compile in step with one another, each by its first batch.
    """
    done = start is not None and start >= config.train.steps
    from_weights = any(getattr(config.model, part).init for part in PARTS)
    return jax.process_count() == 1 and not done and not from_weights
