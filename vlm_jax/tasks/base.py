"""What a task is: the fields it needs, its prompt, its target, its loss. One file a task, one row in `TASK_TABLE`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from vlm_jax.config.schema import LossConfig
from vlm_jax.contract import PRETRAIN_TASKS, TASKS, Batch, Record

MetricState = dict[str, tuple[jax.Array, jax.Array]]
"""{metric: (sum, count)}; states of micro-batches and of batches add up."""


@dataclass(frozen=True)
class LossContext:
    """What is static about a run's losses.

    Attributes:
      config: the loss section of the run's configuration.
      text_tasks: the enabled text tasks, in the order of the model's text rows R.
      n_tokens: real size of the vocabulary; padded logits beyond it take no part.
      class_weights: f32[2, C] for absent and present, or None (`class_balanced` needs them).
      prior_log_odds: f32[C], log of training positives over negatives, or None (`logit_adjustment` needs it).
      mask_token: id of [MASK], and
      special_tokens: ids that are no words, padding among them: what a masked language model needs.
    """

    config: LossConfig
    text_tasks: tuple[str, ...]
    n_tokens: int
    class_weights: Any = field(default=None, compare=False)
    prior_log_odds: Any = field(default=None, compare=False)
    mask_token: int = 0
    special_tokens: tuple[int, ...] = (0,)


class Task(Protocol):
    """One task of the model. A record that does not carry it is masked, never invented.

    Attributes:
      name: of `contract.TASKS` or `contract.PRETRAIN_TASKS`.
      fields: of a Record that the task reads, inputs first and the truth last; no other may change its answer or loss.
    """

    name: str
    fields: tuple[str, ...]

    def prompt(self, record: Record) -> tuple[str | None, ...]:
        """Segments for the text encoder; None where the text is not known."""
        ...

    def target(self, record: Record) -> str | None:
        """The text to generate; None for a task without text."""
        ...

    def carried(self, record: Record) -> bool:
        """Whether the record holds what the task is scored on."""
        ...

    def count(self, batch: Batch) -> jax.Array:
        """f32[]: number of terms (labels or tokens) that the batch's loss averages over."""
        ...

    def loss_sum(self, outputs: Any, batch: Batch, context: LossContext) -> tuple[jax.Array, MetricState]:
        """Sum of the loss over `count` terms, so that micro-batches and shards add up exactly."""
        ...

    def decode(self, prediction: Any, row: int) -> Any:
        """What the task says of row `row` of a decoded batch (`decoding.system.RawPrediction`)."""
        ...


@runtime_checkable
class Hides(Protocol):
    """A task that changes what the model sees, anew in every step."""

    def hide(self, key: jax.Array, batch: Batch, context: LossContext) -> Batch:
        """The batch as the model and the loss see it; runs on the device."""
        ...


def loss(task: Task, outputs: Any, batch: Batch, context: LossContext) -> tuple[jax.Array, MetricState]:
    """Mean loss of one task over a batch, 0 where nothing in it carries the task; f32[] and its metric state."""
    total, state = task.loss_sum(outputs, batch, context)
    return total / jnp.maximum(task.count(batch), 1.0), state


def task_slot(name: str) -> int:
    """Column of the task on the prompt axis K; an objective of pre-training stands alone, in the first."""
    return 0 if name in PRETRAIN_TASKS else TASKS.index(name)
