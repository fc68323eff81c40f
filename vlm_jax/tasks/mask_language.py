"""Pre-training of the text encoder: the words that were hidden in a report's text (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.contract import Batch, Record
from vlm_jax.models.pretrain.mlm import n_hidden
from vlm_jax.tasks.base import LossContext, MetricState, task_slot
from vlm_jax.tasks.losses import smoothed_cross_entropy

AS_MASK, AS_OTHER = 0.8, 0.1
"""Of the hidden tokens: shown as [MASK], and as any other token; the rest stay as they are."""


class MaskLanguage:
    """Reads a sentence of a report with the one before it, or the description of an activity; stands alone in a run."""

    name: str = "mask_language"
    fields: tuple[str, ...] = ("context", "report_sentence", "description")

    def prompt(self, record: Record) -> tuple[str | None, ...]:
        if record.report_sentence is not None:
            return (record.context, record.report_sentence)
        return (record.description,)

    def target(self, record: Record) -> None:
        """None: what is hidden is drawn on the device."""
        del record

    def carried(self, record: Record) -> bool:
        return record.report_sentence is not None or record.description is not None

    def count(self, batch: Batch) -> jax.Array:
        """Hidden tokens, of a batch that `hide` made."""
        return self._hidden(batch, jnp.asarray(batch.target)[:, task_slot(self.name)]).sum()

    def loss_sum(self, outputs: Any, batch: Batch, context: LossContext) -> tuple[jax.Array, MetricState]:
        """Cross-entropy of the hidden tokens, without label smoothing."""
        found = outputs.pretraining
        mask, logits = self._hidden(batch, found.wanted), found.logits[..., : context.n_tokens]
        losses = smoothed_cross_entropy(logits, found.wanted, 0.0)
        correct = (logits.argmax(axis=-1) == found.wanted) * mask
        total = (losses * mask).sum()
        return total, {"loss": (total, mask.sum()), "token_accuracy": (correct.sum(), mask.sum())}

    def decode(self, prediction: Any, row: int) -> None:
        del prediction, row

    def hide(self, key: jax.Array, batch: Batch, context: LossContext) -> Batch:
        """A batch whose prompt has words hidden, and whose target is what stood there (0 elsewhere)."""
        slot, prompt = task_slot(self.name), jnp.asarray(batch.prompt)
        shown, wanted = hide_tokens(key, prompt[:, slot], context)
        target = jnp.zeros_like(prompt).at[:, slot].set(wanted)
        return dataclasses.replace(batch, prompt=prompt.at[:, slot].set(shown), target=target)

    def _hidden(self, batch: Batch, wanted: jax.Array) -> jax.Array:
        """f32 like `wanted`: 1 where a token of a valid record is hidden."""
        rows = jnp.asarray(batch.valid) & jnp.asarray(batch.task_mask)[:, task_slot(self.name)]
        return ((wanted != 0) & rows[:, None]).astype(jnp.float32)


def hide_tokens(key: jax.Array, tokens: jax.Array, context: LossContext) -> tuple[jax.Array, jax.Array]:
    """Hides 15 % of each text's tokens, at least one; special tokens are never hidden.

    The number is exact for every text, as in BERT's own code, so that the loss of a batch has a known count.

    Args:
      key: of this step.
      tokens: int32[B, S], 0 = padding.
      context: says which tokens are special, and the mask token.

    Returns:
      shown int32[B, S]: of the hidden tokens 80 % are [MASK], 10 % any token that is not special, 10 % as they were;
      wanted int32[B, S]: the hidden tokens, 0 elsewhere.
    """
    place_key, kind_key, other_key = jax.random.split(key, 3)
    special = np.array(context.special_tokens, np.int32)
    words = (tokens != 0) & ~jnp.isin(tokens, special)
    noise = jnp.where(words, jax.random.uniform(place_key, tokens.shape), 2.0)
    rank = jnp.argsort(jnp.argsort(noise, axis=1), axis=1)
    length = (tokens != 0).sum(axis=1, keepdims=True)
    chosen = words & (rank < jnp.maximum(n_hidden(length), 1))
    ordinary = np.setdiff1d(np.arange(context.n_tokens, dtype=np.int32), special)
    other = jax.random.choice(other_key, ordinary, tokens.shape)
    kind = jax.random.uniform(kind_key, tokens.shape)
    replaced = jnp.where(kind < AS_MASK, context.mask_token, jnp.where(kind < AS_MASK + AS_OTHER, other, tokens))
    return jnp.where(chosen, replaced, tokens).astype(tokens.dtype), jnp.where(chosen, tokens, 0)
