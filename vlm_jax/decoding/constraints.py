"""Which tokens may be generated: boolean masks over the vocabulary, True = may be emitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.contract import END, TASKS

FORBIDDEN = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[NULL]", "[START]"),
    *(f"[{task.upper()}]" for task in TASKS),
)
"""Tokens that no target text holds, whatever the task."""

NEGATIVE = -1e30
"""Log-probability of what may not happen: finite, so that sums and products of it never become NaN."""


def vocabulary_mask(tokenizer, text_tasks: Sequence[str], ban: Iterable[str] = FORBIDDEN) -> np.ndarray:
    """bool[R, V]: everything but the special tokens; [END] (the procedure ends here) only where it can be true.

    Args:
      tokenizer: has `.size` and `.id(token)`.
      text_tasks: R names; only `anticipate` may answer [END].
      ban: special tokens never to be emitted; [EOS] must not be among them.
    """
    mask = np.ones((len(text_tasks), tokenizer.size), bool)
    mask[:, [tokenizer.id(token) for token in ban]] = False
    for row, task in enumerate(text_tasks):
        mask[row, tokenizer.id(END)] = task == "anticipate"
    return mask


def constrain(logits: jax.Array, allowed: jax.Array | np.ndarray | None) -> jax.Array:
    """Log-probabilities over the allowed tokens.

    Args:
      logits: f32[B, R, W, V].
      allowed: bool[V'] or bool[R, V'] with V' <= V (a padded vocabulary's tail is never allowed), or None.

    Returns:
      f32[B, R, W, V]: log-softmax over what is allowed, NEGATIVE elsewhere.
    """
    if allowed is None:
        return jax.nn.log_softmax(logits, axis=-1)
    size = logits.shape[-1]
    mask = np.atleast_2d(np.asarray(allowed, bool))
    if mask.shape[-1] > size or mask.shape[0] not in (1, logits.shape[1]):
        raise ValueError(f"mask of shape {mask.shape} does not fit logits of {logits.shape[1]} tasks, {size} tokens")
    mask = np.pad(mask, ((0, 0), (0, size - mask.shape[-1])))[None, :, None, :]
    log_probs = jax.nn.log_softmax(jnp.where(mask, logits, NEGATIVE), axis=-1)
    return jnp.where(mask, log_probs, NEGATIVE)
