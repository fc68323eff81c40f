"""Pre-training of the image encoder: the pixels of the patches that it did not see (He et al. 2022)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from vlm_jax.contract import Batch, Record
from vlm_jax.tasks.base import LossContext, MetricState, task_slot


class Reconstruct:
    """Needs an image and nothing else; stands alone in a run."""

    name: str = "reconstruct"
    fields: tuple[str, ...] = ("image",)

    def prompt(self, record: Record) -> tuple[str | None, ...]:
        del record
        return ()

    def target(self, record: Record) -> None:
        del record

    def carried(self, record: Record) -> bool:
        return record.image is not None

    def count(self, batch: Batch) -> jax.Array:
        """Images: each has as many hidden patches as the others."""
        return self._rows(batch).sum()

    def loss_sum(self, outputs: Any, batch: Batch, context: LossContext) -> tuple[jax.Array, MetricState]:
        """Squared error, the mean over the hidden patches of each image, summed over the images."""
        del context
        found = outputs.pretraining
        rows, hidden = self._rows(batch), found.hidden.astype(jnp.float32)
        errors = jnp.square(found.predicted - found.wanted).mean(axis=-1)
        total = ((errors * hidden).sum(axis=1) / hidden.sum(axis=1) * rows).sum()
        return total, {"loss": (total, rows.sum())}

    def decode(self, prediction: Any, row: int) -> None:
        del prediction, row

    def _rows(self, batch: Batch) -> jax.Array:
        """f32[B]: records that are valid and have an image."""
        seen = jnp.asarray(batch.frame_mask)[:, 0] & jnp.asarray(batch.task_mask)[:, task_slot(self.name)]
        return (seen & jnp.asarray(batch.valid)).astype(jnp.float32)
