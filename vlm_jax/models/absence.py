"""What stands where a modality is missing: its learned null embedding, of which one token is seen.

As many copies as there are image patches or prompt positions say no more than one, and under the softmax that a decoder
shares between image and prompt they outvote the modality that is there (docs/results/study.md, null worlds).
"""

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
        shows one of them.
      null: [D], the learned null embedding.
      no_image: the ablation: as if no frame were there.

    Returns:
      [B, F * P, D] and bool[B, F * P].
    """
    b, f = frame_mask.shape
    tokens = tokens.reshape(b, f, *tokens.shape[1:])
    if no_image:
        frame_mask = jnp.zeros_like(frame_mask)
    tokens = jnp.where(frame_mask[:, :, None, None], tokens, null.astype(tokens.dtype))
    one = jnp.zeros(tokens.shape[1:3], bool).at[0, -1].set(True)  # the last is a patch, never the class token
    seen = frame_mask[:, :, None] | (one & ~frame_mask.any(axis=1)[:, None, None])
    return tokens.reshape(b, -1, tokens.shape[-1]), seen.reshape(b, -1)


def null_prompts(tokens: jax.Array, null: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The ablation `no_text`: the null embedding in place of every prompt token; not even a length is told.

    Args:
      tokens: [..., S, D], for their shape and dtype.
      null: [D], the learned null embedding.

    Returns:
      [..., S, D] and bool[..., S], True for the first position.
    """
    first = jnp.broadcast_to(jnp.arange(tokens.shape[-2]) == 0, tokens.shape[:-1])
    return jnp.broadcast_to(null.astype(tokens.dtype), tokens.shape), first
