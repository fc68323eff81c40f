"""Element-wise losses, in float32. Reductions belong to the tasks, which know the masks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vlm_jax.config.schema import LossConfig
from vlm_jax.contract import NO_REGIONS

_SMALLEST = 1e-8


def _focus(probability: jax.Array, gamma: float) -> jax.Array:
    """probability ** gamma with a finite gradient at 0, where that of the power is not for gamma below 1."""
    return jnp.ones_like(probability) if gamma == 0 else jnp.power(jnp.maximum(probability, _SMALLEST), gamma)


def asymmetric_loss(
    logits: jax.Array, labels: jax.Array, *, gamma_positive: float, gamma_negative: float, clip: float
) -> jax.Array:
    """Asymmetric loss for multi-label classification (Ridnik et al. 2021, arXiv 2009.14119, eq. 7).

    Args:
      logits: f32[...].
      labels: same shape, 0 or 1.
      gamma_positive: focusing of the positives.
      gamma_negative: focusing of the negatives.
      clip: probability margin m; negatives easier than it cost nothing.

    Returns:
      f32[...]: loss of each element.
    """
    shifted = jnp.maximum(jax.nn.sigmoid(logits) - clip, 0.0)
    positive = -_focus(jax.nn.sigmoid(-logits), gamma_positive) * jax.nn.log_sigmoid(logits)
    # log(1 - shifted) is log_sigmoid(-logits) where nothing was clipped: stable for large logits.
    negative_log = jax.nn.log_sigmoid(-logits) if clip == 0 else jnp.log(jnp.maximum(1.0 - shifted, _SMALLEST))
    negative = -_focus(shifted, gamma_negative) * negative_log
    return labels * positive + (1.0 - labels) * negative


def focal_loss(logits: jax.Array, labels: jax.Array, gamma: float) -> jax.Array:
    """Focal loss without class weights (Lin et al. 2017, arXiv 1708.02002, eq. 4), f32[...] of each element."""
    wrong = jax.nn.sigmoid(jnp.where(labels > 0.5, -logits, logits))
    return _focus(wrong, gamma) * optax.losses.sigmoid_binary_cross_entropy(logits, labels)


def label_loss(logits: jax.Array, labels: jax.Array, config: LossConfig, class_weights: jax.Array | None) -> jax.Array:
    """Binary loss of each label by `config.landmarks`.

    Args:
      logits: f32[B, C].
      labels: [B, C], 0 or 1.
      config: which loss, and its constants.
      class_weights: f32[2, C], weights of absent and present; used by `class_balanced` only.

    Returns:
      f32[B, C].
    """
    logits, labels = logits.astype(jnp.float32), labels.astype(jnp.float32)
    if config.landmarks == "focal":
        return focal_loss(logits, labels, config.focal_gamma)
    if config.landmarks == "asymmetric":
        return asymmetric_loss(
            logits,
            labels,
            gamma_positive=config.asymmetric_gamma_positive,
            gamma_negative=config.asymmetric_gamma_negative,
            clip=config.asymmetric_clip,
        )
    plain = optax.losses.sigmoid_binary_cross_entropy(logits, labels)
    if config.landmarks == "class_balanced":
        if class_weights is None:
            raise ValueError("loss.landmarks=class_balanced needs the class weights of the training split")
        return plain * jnp.where(labels > 0.5, class_weights[1], class_weights[0])
    return plain


def region_shares(regions: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """What share of each place each landmark covers.

    Args:
      regions: uint8[B, H, W], as in `contract.Batch`.
      shape: (B, h, w, C) of the places; h and w divide H and W.

    Returns:
      f32[B, h, w, C], and bool[B]: where it is known.
    """
    b, h, w, c = shape
    cells = regions.reshape(b, h, regions.shape[1] // h, w, regions.shape[2] // w)
    # One landmark at a time: all at once would be C images in float32.
    each = [(cells == i + 1).astype(jnp.float32).mean((2, 4)) for i in range(c)]
    return jnp.stack(each, axis=-1), regions[:, 0, 0] != NO_REGIONS


def region_loss(logits: jax.Array, shares: jax.Array) -> jax.Array:
    """f32[B, C]: binary cross-entropy of each landmark's share of a place, [B, h, w, C], a mean over places."""
    return optax.losses.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), shares).mean((1, 2))


def class_balanced_weights(positives: np.ndarray, negatives: np.ndarray, beta: float) -> np.ndarray:
    """Weights by the effective number of samples (Cui et al. 2019, arXiv 1901.05555, eq. 2), per label.

    Args:
      positives: int[C], training frames with the label.
      negatives: int[C], training frames known to be without it.
      beta: in [0, 1); 0 weighs all alike.

    Returns:
      f32[2, C]: weights of absent and present, which add up to 2 for each label.
    """
    counts = np.stack([negatives, positives]).astype(np.float64)
    weights = (1.0 - beta) / np.maximum(1.0 - np.power(beta, np.maximum(counts, 1.0)), 1e-12)
    return (2.0 * weights / weights.sum(axis=0, keepdims=True)).astype(np.float32)


def prior_log_odds(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """f32[C]: log of positives over negatives, one added to each count so that it is finite.

    Logit adjustment (Menon et al. 2021, arXiv 2007.07314, eq. 10) for a sigmoid, which is a softmax over a logit and 0:
    the prior's log-odds join the logit in training only, so that the logit itself is of balanced classes.
    """
    return np.log((np.asarray(positives, np.float64) + 1) / (np.asarray(negatives, np.float64) + 1)).astype(np.float32)


def smoothed_cross_entropy(
    logits: jax.Array, targets: jax.Array, smoothing: float, n_tokens: int | None = None
) -> jax.Array:
    """Cross-entropy with label smoothing over the whole vocabulary (Szegedy et al. 2016), of each token.

    Args:
      logits: f32[..., V].
      targets: int32[...].
      smoothing: share of the probability spread evenly over the real vocabulary.
      n_tokens: size of the real vocabulary; logits beyond it are masked (so low that their probability is 0).
        None = V.

    Returns:
      f32[...].
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    picked = jnp.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]
    v = logits.shape[-1]
    if n_tokens is None or n_tokens >= v:
        return -(1.0 - smoothing) * picked - smoothing * log_probabilities.mean(axis=-1)
    real = jnp.where(jnp.arange(v) < n_tokens, log_probabilities, 0.0)
    return -(1.0 - smoothing) * picked - smoothing * real.sum(axis=-1) / n_tokens
