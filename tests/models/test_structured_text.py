"""Remedies for structured text in the model: a decoder told of predicted landmarks, and several frames."""

from __future__ import annotations

import copy
from typing import Any

import jax
import numpy as np


def changed(batch: Any, **fields: Any) -> Any:
    other = copy.copy(batch)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


def test_predicted_landmarks_reach_the_decoder_of_describe_alone(make_small, make_batch):
    small, batch = make_small(condition_on_landmarks=True), make_batch()
    tokens = small.params["landmark_tokens"]["embedding"]
    other = {**small.params, "landmark_tokens": {"embedding": tokens + 0.5}}
    before, after = small(batch), small(batch, params=other)
    assert same(before.landmark_logits, after.landmark_logits)
    moved = [not same(before.token_logits[:, r], after.token_logits[:, r]) for r in range(3)]
    assert moved == [True, False, False]
    memory = small.encode(batch)
    assert memory.prompt_mask.shape == (3, 3, 7 + 5)
    assert memory.prompt_mask[:, :, 7:].all(axis=(0, 2)).tolist() == [True, False, False]


def test_the_decoder_does_not_change_what_is_detected(make_small, make_batch):
    """No gradient of the texts passes through the predicted landmarks: the head learns from the labels alone."""
    small, batch = make_small(condition_on_landmarks=True), make_batch()
    arguments = (batch.image, batch.frame_mask, batch.prompt, batch.target)

    def text_loss(params):
        return (small.model.apply({"params": params}, *arguments).token_logits ** 2).mean()

    gradient = small.jit(jax.grad(text_loss))(small.params)
    assert not np.abs(gradient["landmark_head"]["linear"]["kernel"]).any()
    assert np.abs(gradient["landmark_tokens"]["embedding"]).max() > 0


def test_places_in_the_row_of_frames_are_told_apart(make_small, make_batch):
    """With their embedding, two frames exchanged are another example; without it they are not, but for rounding."""
    batch = make_batch(frames=2)
    swapped = changed(batch, image=batch.image[:, ::-1].copy())
    plain, placed = make_small(), make_small(frames=2)
    np.testing.assert_allclose(plain(batch).landmark_logits, plain(swapped).landmark_logits, atol=1e-5)
    assert not np.allclose(placed(batch).landmark_logits, placed(swapped).landmark_logits, atol=1e-3)
    one = changed(batch, image=batch.image[:, :1], frame_mask=batch.frame_mask[:, :1])
    alone = changed(batch, frame_mask=np.array([[True, False]] * 3))
    np.testing.assert_allclose(placed(one).landmark_logits, placed(alone).landmark_logits, atol=1e-5)
