"""Batch norm in a training step: torch's statistics, micro-batches, freezing, the moving average, sharded batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen as nn

from vlm_jax.config.schema import Config, OptimConfig, TrainConfig
from vlm_jax.models.backbones.convolution import BatchNorm, convolution
from vlm_jax.training.batch_norm import apply_in_training, frozen_collection, overwrite, running
from vlm_jax.training.optim import make_optimizer
from vlm_jax.training.step import accumulate_gradients, micro_batches

MOMENTUM, EPSILON = 0.3, 1e-3


class Small(nn.Module):
    """Convolution, norm, ReLU, twice: the face of a system that training needs."""

    @nn.compact
    def __call__(self, image, *, train=False):
        x = image
        for name in ("a", "b"):
            x = convolution(4, 3, 1, jnp.float32, name=f"conv_{name}")(x)
            x = nn.relu(BatchNorm(EPSILON, MOMENTUM, name=f"norm_{name}")(x, train))
        return x


class TorchSmall(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_a, self.conv_b = (torch.nn.Conv2d(n, 4, 3, 1, 1, bias=False) for n in (3, 4))
        self.norm_a, self.norm_b = (torch.nn.BatchNorm2d(4, eps=EPSILON, momentum=MOMENTUM) for _ in range(2))

    def forward(self, x):
        for name in ("a", "b"):
            x = torch.relu(getattr(self, f"norm_{name}")(getattr(self, f"conv_{name}")(x)))
        return x


def pair():
    """The same random weights and running statistics in both."""
    theirs = TorchSmall()
    generator = torch.Generator().manual_seed(0)
    params = {}
    for name in ("a", "b"):
        norm, conv = getattr(theirs, f"norm_{name}"), getattr(theirs, f"conv_{name}")
        for value in (norm.weight.data, norm.running_var):
            value.copy_(torch.rand(4, generator=generator) + 0.5)
        for value in (norm.bias.data, norm.running_mean):
            value.copy_(torch.randn(4, generator=generator))
        params[f"conv_{name}"] = {"kernel": conv.weight.detach().numpy().transpose(2, 3, 1, 0).copy()}
        values = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        keys = ("scale", "bias", "running_mean", "running_variance")
        params[f"norm_{name}"] = {k: v.detach().numpy().copy() for k, v in zip(keys, values, strict=True)}
    return theirs, jax.tree.map(jnp.asarray, params)


def images(n=8):
    return np.random.default_rng(0).normal(1.0, 2.0, (n, 6, 5, 3)).astype(np.float32)


def loss(params, batch, counts, key, freeze=""):
    out, statistics = apply_in_training(Small(), params, freeze, batch, rngs={"dropout": key})
    return jnp.sum(out**2) / counts, (jnp.zeros(()), {}, statistics)


def torch_step(model, parts, total):
    """Gradients over micro-batches, one after the other; the running statistics follow."""
    model.train()
    for part in parts:
        ((model(torch.from_numpy(part.transpose(0, 3, 1, 2).copy())) ** 2).sum() / total).backward()


def assert_as_torch(params, gradients, theirs):
    for name in ("a", "b"):
        norm, conv = getattr(theirs, f"norm_{name}"), getattr(theirs, f"conv_{name}")
        for ours, value in (("running_mean", norm.running_mean), ("running_variance", norm.running_var)):
            np.testing.assert_allclose(params[f"norm_{name}"][ours], value.numpy(), atol=1e-5)
            np.testing.assert_array_equal(gradients[f"norm_{name}"][ours], 0)
        np.testing.assert_allclose(gradients[f"norm_{name}"]["scale"], norm.weight.grad.numpy(), atol=1e-4)
        kernel = conv.weight.grad.numpy().transpose(2, 3, 1, 0)
        np.testing.assert_allclose(gradients[f"conv_{name}"]["kernel"], kernel, atol=1e-4)


@pytest.mark.parametrize("parts", [1, 4])
def test_running_statistics_and_gradients_are_torchs(parts):
    theirs, params = pair()
    batch, total = images(), 100.0
    (_, (_, _, statistics)), gradients = jax.jit(accumulate_gradients, static_argnums=(0, 5))(
        loss, params, jnp.asarray(batch), jnp.asarray(total), jax.random.key(0), parts
    )
    micro = [batch] if parts == 1 else list(np.asarray(micro_batches(jnp.asarray(batch), parts)))
    torch_step(theirs, micro, total)
    assert_as_torch(overwrite(params, statistics), gradients, theirs)
    assert np.abs(statistics["norm_a"]["running_mean"] - params["norm_a"]["running_mean"]).max() > 0.01


def test_evaluation_reads_the_running_statistics_and_changes_nothing():
    theirs, params = pair()
    batch = images()
    out, updated = Small().apply({"params": params}, batch, mutable=["batch_stats"])
    expected = theirs.eval()(torch.from_numpy(batch.transpose(0, 3, 1, 2).copy())).detach().numpy()
    np.testing.assert_allclose(out, expected.transpose(0, 2, 3, 1), atol=1e-5)
    assert not updated


def test_rows_without_an_image_count_in_no_statistic():
    norm, x = BatchNorm(), images()
    variables = norm.init(jax.random.key(0), x)
    mask = np.array([True] * 5 + [False] * 3)

    def run(rows, keep):
        out, updated = norm.apply(variables, rows, True, keep, mutable=["batch_stats"])
        return out[:5], updated["batch_stats"]

    few, many = run(x[:5], None), run(x, mask)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), few, many)


def test_a_batch_without_any_image_leaves_the_gradients_finite():
    """As of notes alone: the zeros that stand for statistics would multiply by 316 at every norm."""
    norm, x = BatchNorm(), images()
    variables = norm.init(jax.random.key(0), x)
    nothing = np.zeros(8, bool)

    def masked(variables):
        deep = x
        for _ in range(17):
            deep, updated = norm.apply(variables, deep, True, nothing, mutable=["batch_stats"])
        return jnp.where(nothing[:, None, None, None], deep, 0).sum(), (deep, updated["batch_stats"])

    gradients, (deep, statistics) = jax.jit(jax.grad(masked, has_aux=True))(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    np.testing.assert_allclose(deep, x, rtol=1e-3)  # by the running statistics, which are those of the beginning
    np.testing.assert_array_equal(statistics["running_variance"], 1.0)


def test_a_frozen_norm_acts_as_in_evaluation_and_keeps_its_statistics():
    _, params = pair()
    batch = images()
    out, statistics = apply_in_training(Small(), params, "norm_", batch, rngs={})
    np.testing.assert_array_equal(out, Small().apply({"params": params}, batch))
    assert not statistics
    _, statistics = apply_in_training(Small(), params, "^norm_a", batch, rngs={})
    assert set(statistics) == {"norm_b"}
    assert frozen_collection(params, "") == {} and frozen_collection(params, "conv") == {}


def test_the_optimiser_leaves_running_statistics_alone():
    _, params = pair()
    (_, (_, _, statistics)), gradients = jax.jit(accumulate_gradients, static_argnums=(0, 5))(
        loss, params, jnp.asarray(images()), jnp.asarray(1.0), jax.random.key(0), 1
    )
    config = Config(optim=OptimConfig(lr=0.1, warmup_steps=0, weight_decay=0.5), train=TrainConfig(steps=5))
    tx = make_optimizer(config, params)
    updates, _ = tx.update(gradients, tx.init(params), params)
    moved = optax.apply_updates(params, updates)
    for name in ("norm_a", "norm_b"):
        for leaf in ("running_mean", "running_variance"):
            np.testing.assert_array_equal(moved[name][leaf], params[name][leaf])
        assert not np.array_equal(moved[name]["scale"], params[name]["scale"])
    assert jax.tree.structure(running(params, statistics)) == jax.tree.structure(statistics)


@pytest.mark.slow
def test_statistics_of_a_sharded_batch_are_those_of_the_whole():
    script, root = Path(__file__).parent / "sharded_statistics.py", Path(__file__).parents[2]
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=280, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["difference"] < 1e-5 and report["moved"] > 1e-3
