"""What is measured: a run as `vlm-jax train` would build it, on random data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vlm_jax.bench import flops
from vlm_jax.config.parts import asks_for_places
from vlm_jax.config.schema import Config
from vlm_jax.contract import TASKS, Batch
from vlm_jax.data.pipeline import check_divides
from vlm_jax.errors import UserError
from vlm_jax.models import build_model
from vlm_jax.parallel.mesh import make_mesh
from vlm_jax.parallel.partition import batch_sharding
from vlm_jax.tasks import LossContext
from vlm_jax.training.inspection import DEFAULT_LANDMARKS
from vlm_jax.training.optim import make_optimizer
from vlm_jax.training.program import StepProgram, abstract_batch
from vlm_jax.training.state import TrainState, abstract_state, fresh_state
from vlm_jax.training.step import make_loss


@dataclass
class Trial:
    """A model with its state and one random batch. `state` is what the last step left.

    Attributes:
      n_landmarks: C. n_tokens: words of the vocabulary.
      batch: numpy, `train.batch_size` rows.
    """

    config: Config
    mesh: Mesh
    model: Any
    state: TrainState
    abstract: TrainState
    n_landmarks: int
    n_tokens: int
    batch: Batch

    @cached_property
    def context(self) -> LossContext:
        """Of losses that need no statistics of the data; adjusted logits are adjusted by nothing."""
        odds = np.zeros(self.n_landmarks, np.float32) if self.config.loss.logit_adjustment else None
        return LossContext(self.config.loss, tuple(self.model.text_tasks), self.n_tokens, prior_log_odds=odds)

    @cached_property
    def placed(self) -> Batch:
        """The batch on the devices; UserError where it does not divide among them."""
        check_divides(self.mesh, self.config.train.batch_size, "train.batch_size")
        return jax.device_put(self.batch, batch_sharding(self.mesh))

    @cached_property
    def train_step(self) -> Callable[..., Any]:
        """The step that training runs, compiled once."""
        config = self.config
        tx = make_optimizer(config, self.abstract.params)
        mesh, abstract = self.mesh, self.abstract
        return StepProgram.of(config, self.model, tx, self.context, mesh, abstract, self.n_landmarks).step

    @cached_property
    def forward(self) -> Callable[..., Any]:
        """The teacher-forced pass, (params, batch) -> Outputs."""
        return jax.jit(lambda params, b: _forward(self.model, params, b))

    def flops(self, *, train: bool) -> int:
        """Counted operations of one batch: of loss and gradients, or of the forward pass alone."""
        config = dataclasses.replace(
            self.config,
            model=dataclasses.replace(self.config.model, remat=False),
            optim=dataclasses.replace(self.config.optim, accumulate=1),
        )
        model = build_model(config, self.n_landmarks, self.n_tokens)
        batch = abstract_batch(config, config.train.batch_size, self.n_landmarks)
        if not train:
            return flops.count(lambda params, b: _forward(model, params, b), self.abstract.params, batch)
        loss = make_loss(model, config, self.context)
        counts = {name: np.float32(1) for name in config.tasks}
        gradient = jax.grad(loss, has_aux=True)
        return flops.count(gradient, self.abstract.params, batch, counts, jax.random.key(0))


def _forward(model: Any, params: Any, batch: Batch) -> Any:
    return model.apply({"params": params}, batch.image, batch.frame_mask, batch.prompt, batch.target)


def make_trial(config: Config, seed: int = 0) -> Trial:
    """Builds the run for the simulator's number of landmarks and the configured vocabulary; reads no data.

    Raises:
      UserError: a system that is no vision-language model, or a loss that needs the data's statistics.
    """
    if config.system != "vlm" or config.loss.landmarks == "class_balanced":
        raise UserError(
            "bench runs system=vlm without loss.landmarks=class_balanced; choose a preset of configs/vlm.py"
        )
    n_tokens = min(config.data.vocab_size, config.model.vocab_size or config.data.vocab_size)
    model = build_model(config, DEFAULT_LANDMARKS, n_tokens)
    mesh = make_mesh(config.parallel)

    def tx_fn(params: Any) -> Any:
        return make_optimizer(config, params)

    abstract = abstract_state(config, model, tx_fn, mesh)
    state = fresh_state(config, model, tx_fn, mesh, abstract)
    batch = random_batch(config, config.train.batch_size, DEFAULT_LANDMARKS, n_tokens, seed)
    return Trial(config, mesh, model, state, abstract, DEFAULT_LANDMARKS, n_tokens, batch)


def random_batch(config: Config, size: int, n_landmarks: int, n_tokens: int, seed: int) -> Batch:
    """Noise of the right shapes: every task of every record, texts from a quarter of the longest to the longest.

    `landmarks` and `describe` ask the same, as in real batches.
    """
    rng = np.random.default_rng(seed)
    k, data = len(TASKS), config.data
    prompt = _texts(rng, (size, k, data.prompt_length), n_tokens)
    prompt[:, 1] = prompt[:, 0]
    return Batch(
        image=rng.integers(0, 256, (size, data.frames, data.image_size, data.image_size, 3), dtype=np.uint8),
        frame_mask=np.ones((size, data.frames), bool),
        landmarks=rng.integers(0, 2, (size, n_landmarks)).astype(np.int8),
        landmarks_mask=np.ones((size, n_landmarks), bool),
        prompt=prompt,
        target=_texts(rng, (size, k, data.target_length), n_tokens),
        task_mask=np.ones((size, k), bool),
        valid=np.ones(size, bool),
        uid=np.arange(size, dtype=np.int32),
        regions=rng.integers(0, n_landmarks + 1, (size, data.image_size, data.image_size), dtype=np.uint8)
        if asks_for_places(config)
        else None,
    )


def _texts(rng: np.random.Generator, shape: tuple[int, ...], n_tokens: int) -> np.ndarray:
    """int32[shape] of words, each row padded with zeros behind its own length."""
    words = rng.integers(1, n_tokens, shape, dtype=np.int32)
    lengths = rng.integers(max(shape[-1] // 4, 2), shape[-1] + 1, shape[:-1])
    return np.where(np.arange(shape[-1]) < lengths[..., None], words, 0)
