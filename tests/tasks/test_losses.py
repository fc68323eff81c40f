"""Losses against torch, torchvision's formula and scikit-learn-free arithmetic, on random inputs."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from vlm_jax.config.rules import CHOICES
from vlm_jax.config.schema import LossConfig
from vlm_jax.contract import NO_REGIONS
from vlm_jax.models.products import MASKED_LOGIT
from vlm_jax.tasks.losses import (
    asymmetric_loss,
    class_balanced_weights,
    label_loss,
    region_loss,
    region_shares,
    smoothed_cross_entropy,
)

TOLERANCE = 1e-5


@pytest.fixture
def labelled() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(0, 4, (16, 7)).astype(np.float32), rng.integers(0, 2, (16, 7)).astype(np.float32)


def test_bce_equals_torch(labelled):
    logits, labels = labelled
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(logits), torch.tensor(labels), reduction="none"
    )
    np.testing.assert_allclose(label_loss(logits, labels, LossConfig(), None), expected, atol=TOLERANCE)


def test_focal_equals_its_definition_in_torch(labelled):
    logits, labels = labelled
    z, y = torch.tensor(logits, dtype=torch.float64), torch.tensor(labels, dtype=torch.float64)
    probability = torch.where(y == 1, torch.sigmoid(z), torch.sigmoid(-z))
    expected = -((1 - probability) ** 3.0) * torch.log(probability)
    actual = label_loss(logits, labels, LossConfig(landmarks="focal", focal_gamma=3.0), None)
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE)


def _asymmetric_reference(z, y, gamma_positive, gamma_negative, clip):
    """Ridnik et al.'s equations, written in torch."""
    p = torch.sigmoid(z)
    shifted = (p - clip).clamp(min=0)
    positive = y * (1 - p) ** gamma_positive * torch.log(p)
    negative = (1 - y) * shifted**gamma_negative * torch.log(1 - shifted)
    return -(positive + negative)


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_asymmetric_equals_its_equations(labelled, clip):
    logits, labels = labelled
    expected = _asymmetric_reference(torch.tensor(logits).double(), torch.tensor(labels).double(), 1.0, 4.0, clip)
    actual = asymmetric_loss(
        jnp.asarray(logits), jnp.asarray(labels), gamma_positive=1.0, gamma_negative=4.0, clip=clip
    )
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE)


def test_asymmetric_is_finite_at_extremes():
    logits = jnp.array([[-200.0, 200.0]])
    config = LossConfig(landmarks="asymmetric")
    for labels in ([[0.0, 1.0]], [[1.0, 0.0]]):
        assert np.isfinite(label_loss(logits, jnp.array(labels), config, None)).all()


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("name", ["asymmetric", "focal"])
def test_gradients_are_finite_at_extremes(name, gamma, clip):
    config = LossConfig(
        landmarks=name,
        focal_gamma=gamma,
        asymmetric_gamma_positive=gamma,
        asymmetric_gamma_negative=gamma,
        asymmetric_clip=clip,
    )
    logits = jnp.array([-200.0, -200.0, 0.0, 200.0, 200.0])
    labels = jnp.array([0.0, 1.0, 1.0, 0.0, 1.0])
    value, gradient = jax.value_and_grad(lambda z: label_loss(z, labels, config, None).sum())(logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_gamma_zero_is_plain_cross_entropy(labelled):
    logits, labels = labelled
    plain = label_loss(logits, labels, LossConfig(), None)
    actual = asymmetric_loss(jnp.asarray(logits), jnp.asarray(labels), gamma_positive=0.0, gamma_negative=0.0, clip=0.0)
    np.testing.assert_allclose(actual, plain, atol=TOLERANCE)


def test_class_balanced_weights_follow_cui():
    positives, negatives = np.array([10, 500]), np.array([990, 500])
    weights = class_balanced_weights(positives, negatives, 0.99)
    effective = lambda n: (1 - 0.99**n) / (1 - 0.99)  # noqa: E731
    assert weights[1, 0] / weights[0, 0] == pytest.approx(effective(990) / effective(10), rel=1e-5)
    np.testing.assert_allclose(weights.sum(0), 2.0, rtol=1e-6)
    np.testing.assert_allclose(weights[:, 1], 1.0, rtol=1e-6)


def test_class_balanced_weighs_by_label(labelled):
    logits, labels = labelled
    weights = np.stack([np.full(7, 0.5), np.full(7, 1.5)]).astype(np.float32)
    config = LossConfig(landmarks="class_balanced")
    plain = label_loss(logits, labels, LossConfig(), None)
    weighted = label_loss(logits, labels, config, weights)
    np.testing.assert_allclose(weighted, plain * np.where(labels > 0, 1.5, 0.5), rtol=1e-6)
    with pytest.raises(ValueError, match="class weights"):
        label_loss(logits, labels, config, None)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torch(smoothing):
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(0, 3, (5, 9, 40)).astype(np.float32), rng.integers(0, 40, (5, 9))
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits).reshape(-1, 40),
        torch.tensor(targets).reshape(-1),
        reduction="none",
        label_smoothing=smoothing,
    ).reshape(5, 9)
    actual = smoothed_cross_entropy(jnp.asarray(logits), jnp.asarray(targets), smoothing)
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE)
    padding = np.full((5, 9, 8), MASKED_LOGIT, np.float32)  # as a split vocabulary keeps it
    padded = np.concatenate([logits, padding], axis=-1)
    masked = smoothed_cross_entropy(jnp.asarray(padded), jnp.asarray(targets), smoothing, 40)
    np.testing.assert_allclose(masked, expected, atol=TOLERANCE)


def test_every_loss_name_of_the_schema_is_built(labelled):
    logits, labels = labelled
    weights = np.stack([np.full(7, 0.5), np.full(7, 1.5)]).astype(np.float32)
    results = {
        name: np.asarray(label_loss(logits, labels, dataclasses.replace(LossConfig(), landmarks=name), weights))
        for name in CHOICES["loss.landmarks"]
    }
    assert len(results) >= 4
    for one, other in itertools.combinations(results, 2):
        assert not np.allclose(results[one], results[other]), (one, other)


def test_region_shares_and_loss_equal_torch():
    rng = np.random.default_rng(0)
    regions = rng.integers(0, 5, (3, 12, 8)).astype(np.uint8)
    regions[1] = NO_REGIONS
    logits = rng.normal(0, 3, (3, 3, 4, 4)).astype(np.float32)
    shares, known = region_shares(jnp.asarray(regions), logits.shape)
    each = torch.stack([torch.tensor(regions == i + 1).float() for i in range(4)], 1)
    expected = torch.nn.functional.avg_pool2d(each, (4, 2)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(shares, expected, atol=TOLERANCE)
    assert known.tolist() == [True, False, True]
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), expected, reduction="none")
    np.testing.assert_allclose(region_loss(jnp.asarray(logits), shares), entropy.mean((1, 2)), atol=TOLERANCE)
