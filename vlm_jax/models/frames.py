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
      frame_mask: bool[B, F]; a missing frame's tokens become the null embedding, unseen. An example without any frame
        shows one of them: as many as a frame has say no more, and would outvote a prompt under a shared softmax.
      null: [D], the learned null embedding.
      no_image: the ablation: every token is the null embedding, and seen.

    Returns:
      [B, F * P, D] and bool[B, F * P].
    """
    b, f = frame_mask.shape
    tokens = tokens.reshape(b, f, *tokens.shape[1:])
    null = null.astype(tokens.dtype)
    if no_image:
        tokens, seen = jnp.broadcast_to(null, tokens.shape), jnp.ones(tokens.shape[:3], bool)
    else:
        tokens = jnp.where(frame_mask[:, :, None, None], tokens, null)
        one = jnp.zeros(tokens.shape[1:3], bool).at[0, -1].set(True)  # the last is a patch, never the class token
        seen = frame_mask[:, :, None] | (one & ~frame_mask.any(axis=1)[:, None, None])
    return tokens.reshape(b, -1, tokens.shape[-1]), seen.reshape(b, -1)
