"""What a generation returns."""

from __future__ import annotations

from dataclasses import dataclass

import jax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Generated:
    """Outputs of one call. B batch, R enabled text tasks, T target length, C landmarks.

    Attributes:
      landmark_logits: f32[B, C], or None where the model has no landmark task.
      tokens: int32[B, R, T]: the task's token, the text, [EOS], then zeros; without [EOS] where T cut it.
      scores: f32[B, R]: mean log-probability of the generated tokens, [EOS] included and task token excluded.
      region_logits: f32[B, h, w, C], or None where the model marks no places.
    """

    landmark_logits: jax.Array | None
    tokens: jax.Array
    scores: jax.Array
    region_logits: jax.Array | None = None
