"""T1: which landmarks are in view. A multi-label vector from the frame and the previous activity's description."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.contract import Batch, Record
from vlm_jax.models.regions import area
from vlm_jax.tasks.base import LossContext, MetricState
from vlm_jax.tasks.losses import label_loss, region_loss, region_shares


class Landmarks:
    """Sees the *previous* description only: the current one names the landmarks in view."""

    name: str = "landmarks"
    fields: tuple[str, ...] = ("image", "previous", "mask", "landmarks")

    def prompt(self, record: Record) -> tuple[str | None, ...]:
        return (record.previous,)

    def target(self, record: Record) -> None:
        del record

    def carried(self, record: Record) -> bool:
        return record.landmarks is not None and record.image is not None

    def count(self, batch: Batch) -> jax.Array:
        return self._mask(batch).sum()

    def loss_sum(self, outputs: Any, batch: Batch, context: LossContext) -> tuple[jax.Array, MetricState]:
        mask = self._mask(batch)
        labels = jnp.asarray(batch.landmarks, jnp.float32)
        logits = outputs.landmark_logits
        if context.config.logit_adjustment:
            logits = logits + context.config.logit_adjustment * jnp.asarray(context.prior_log_odds)
        losses = label_loss(logits, labels, context.config, context.class_weights)
        correct = ((outputs.landmark_logits > 0) == (labels > 0.5)) * mask
        total = (losses * mask).sum()
        state = {"loss": (total, mask.sum()), "accuracy": (correct.sum(), mask.sum())}
        if outputs.region_logits is None or batch.regions is None:
            return total, state
        shares, known = region_shares(jnp.asarray(batch.regions), outputs.region_logits.shape)
        known = mask * known[:, None]
        places = (region_loss(outputs.region_logits, shares) * known).sum()
        state["regions"] = (places, known.sum())
        state["area_error"] = (self._area_error(outputs, shares, known), known.sum())
        return total + context.config.regions_weight * places, state

    def _area_error(self, outputs: Any, shares: jax.Array, known: jax.Array) -> jax.Array:
        """f32[]: sum of the differences of area, shares of the image."""
        return (jnp.abs(area(outputs.region_logits) - shares.mean((1, 2))) * known).sum()

    def decode(self, prediction: Any, row: int) -> np.ndarray:
        return prediction.probabilities[row]

    def _mask(self, batch: Batch) -> jax.Array:
        """f32[B, C]: labels that are known, of records that are valid and carry the task."""
        rows = jnp.asarray(batch.valid & batch.task_mask[:, 0])
        return (jnp.asarray(batch.landmarks_mask) & rows[:, None]).astype(jnp.float32)
