"""The tokens of an example's frames as one sequence."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def join_frames(
    tokens: jax.Array, frame_mask: jax.Array, null: jax.Array, no_image: bool
) -> tuple[jax.Array, jax.Array]:
    """Tokens of all frames side by side, and what of them is seen.

    Args:
      tokens: [B * F, P, D], of every frame.
      frame_mask: bool[B, F]; a missing frame's tokens become the null embedding, unseen unless the example has no frame
        at all.
      null: [D], the learned null embedding.
      no_image: the ablation: every token is the null embedding, and seen.

    Returns:
      [B, F * P, D] and bool[B, F * P].
    """
    b, f = frame_mask.shape
    tokens = tokens.reshape(b, f, *tokens.shape[1:])
    null = null.astype(tokens.dtype)
    if no_image:
        tokens, seen = jnp.broadcast_to(null, tokens.shape), jnp.ones_like(frame_mask)
    else:
        tokens = jnp.where(frame_mask[:, :, None, None], tokens, null)
        seen = frame_mask | ~frame_mask.any(axis=1, keepdims=True)
    seen = jnp.broadcast_to(seen[:, :, None], tokens.shape[:3])
    return tokens.reshape(b, -1, tokens.shape[-1]), seen.reshape(b, -1)
