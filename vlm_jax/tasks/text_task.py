"""What the three text tasks share: masked, label-smoothed cross-entropy on their row of the decoder's output."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from vlm_jax.contract import Batch
from vlm_jax.parallel.copies import axis_size
from vlm_jax.tasks.base import LossContext, MetricState, task_slot
from vlm_jax.tasks.losses import smoothed_cross_entropy


class TextTask:
    """Base of the text tasks; a subclass names its prompt and its target."""

    name: str

    def count(self, batch: Batch) -> jax.Array:
        return self._targets(batch)[1].sum()

    def loss_sum(self, outputs: Any, batch: Batch, context: LossContext) -> tuple[jax.Array, MetricState]:
        targets, mask = self._targets(batch)
        logits = outputs.token_logits[:, context.text_tasks.index(self.name)]
        if axis_size("tensor") == 1:  # else a cut would go across the shards of the vocabulary, and be sent
            logits = logits[..., : context.n_tokens]
        losses = smoothed_cross_entropy(logits, targets, context.config.label_smoothing, context.n_tokens)
        correct = (logits.argmax(axis=-1) == targets) * mask
        total = (losses * mask).sum()
        return total, {"loss": (total, mask.sum()), "token_accuracy": (correct.sum(), mask.sum())}

    def decode(self, prediction: Any, row: int) -> str:
        return prediction.texts[self.name][row]

    def _targets(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """int32[B, T-1] targets behind the task token, and f32[B, T-1] mask of those that count."""
        slot = task_slot(self.name)
        targets = jnp.asarray(batch.target)[:, slot, 1:]
        rows = jnp.asarray(batch.valid & batch.task_mask[:, slot])
        return targets, ((targets != 0) & rows[:, None]).astype(jnp.float32)
