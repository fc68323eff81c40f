"""The optimiser against torch's AdamW, and the tables that name parameters."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from vlm_jax.config.load import load_config
from vlm_jax.config.schema import Config, OptimConfig
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params
from vlm_jax.parallel.partition import param_name
from vlm_jax.training import optim


def _config(**changes) -> Config:
    config = load_config("configs/vlm.py:micro")
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, **changes))


@pytest.fixture(scope="module")
def abstract():
    config = _config()
    model = build_model(config, 5, 60)
    return jax.eval_shape(lambda key: init_params(model, config, key), jax.random.key(0))


def test_updates_equal_torch_adamw():
    config = dataclasses.replace(
        Config(),
        optim=OptimConfig(
            lr=0.01,
            warmup_steps=0,
            end_lr_factor=1.0,
            weight_decay=0.1,
            clip_norm=0.5,
            b2=0.99,
        ),
    )
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32), "bias": jnp.zeros(3)}
    weights = {k: torch.nn.Parameter(torch.tensor(np.array(v))) for k, v in params.items()}
    groups = [{"params": [weights["kernel"]], "weight_decay": 0.1}, {"params": [weights["bias"]], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99), eps=1e-8)
    tx = optim.make_optimizer(config, params)
    state = tx.init(params)
    for _ in range(5):
        gradients = {k: rng.normal(size=v.shape).astype(np.float32) for k, v in params.items()}
        for name, parameter in weights.items():
            parameter.grad = torch.tensor(gradients[name])
        torch.nn.utils.clip_grad_norm_(list(weights.values()), 0.5)
        reference.step()
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    for name, parameter in weights.items():
        np.testing.assert_allclose(params[name], parameter.detach(), atol=1e-5)


def test_schedule_rises_peaks_and_ends():
    schedule = optim.make_schedule(OptimConfig(lr=1.0, warmup_steps=10, end_lr_factor=0.1), 100)
    assert [float(schedule(s)) for s in (0, 5, 10, 100)] == pytest.approx([0.0, 0.5, 1.0, 0.1])
    assert float(optim.make_schedule(OptimConfig(lr=1.0, warmup_steps=100), 5)(4)) == pytest.approx(1.0)


def test_decay_is_for_matrices_alone(abstract):
    mask = {param_name(p): v for p, v in jax.tree_util.tree_flatten_with_path(optim.decay_mask(abstract))[0]}
    decayed = {name for name, value in mask.items() if value}
    assert decayed and all(name.endswith(("kernel", "word_embedding")) for name in decayed)
    kernels = {name for name in mask if name.endswith("kernel")}
    assert kernels <= decayed


def _scales(abstract, **changes):
    tree = optim.layer_scales(abstract, _config(**changes))
    return {param_name(p): v for p, v in jax.tree_util.tree_flatten_with_path(tree)[0]}


def test_layer_decay_follows_depth(abstract):
    scales = _scales(abstract, layer_decay=0.5)
    assert scales["image_encoder/patch_embedding/kernel"] == pytest.approx(0.25)  # one layer: L + 1 = 2
    assert scales["image_encoder/blocks/layer_0/mlp/up/kernel"] == pytest.approx(0.5)
    assert scales["image_encoder/norm/scale"] == scales["decoder/norm/scale"] == 1.0
    assert scales["text_encoder/embedding_norm/scale"] == pytest.approx(0.25)
    assert set(_scales(abstract, layer_decay=1.0).values()) == {1.0}


def test_layer_decay_of_scanned_layers_equals_unrolled():
    config = _config(layer_decay=0.5)
    tree = {"image_encoder": {"blocks": {"layers": {"kernel": jax.ShapeDtypeStruct((1, 4, 4), jnp.float32)}}}}
    scale = optim.layer_scales(tree, config)["image_encoder"]["blocks"]["layers"]["kernel"]
    np.testing.assert_allclose(scale, np.full((1, 1, 1), 0.5))


def test_layer_decay_scales_the_whole_step():
    params = {"image_encoder": {"patch_embedding": {"kernel": jnp.ones((2, 2))}}, "head": {"kernel": jnp.ones((2, 2))}}
    config = _config(layer_decay=0.5, warmup_steps=0, clip_norm=0.0, lr=0.1)
    tx = optim.make_optimizer(config, params)
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    ratio = updates["image_encoder"]["patch_embedding"]["kernel"] / updates["head"]["kernel"]
    np.testing.assert_allclose(ratio, 0.25, rtol=1e-6)


def test_frozen_parameters_keep_their_values():
    params = {"image_encoder": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": jnp.ones((2, 2))}}
    tx = optim.make_optimizer(_config(freeze="^image_encoder/", warmup_steps=0, layer_decay=0.9), params)
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    assert not np.any(updates["image_encoder"]["kernel"]) and np.all(updates["head"]["kernel"])


def test_the_norm_is_of_what_is_trained():
    gradients = {"image_encoder": {"kernel": jnp.full((2, 2), jnp.nan)}, "head": {"kernel": jnp.full((2, 2), 3.0)}}
    assert float(optim.trainable_norm(gradients, "^image_encoder/")) == 6.0
    assert np.isnan(optim.trainable_norm(gradients, ""))


@pytest.mark.parametrize("freeze, message", [("(", "regular expression"), ("nothing", "no parameter"), (".", "every")])
def test_bad_freeze_is_one_line(freeze, message):
    with pytest.raises(UserError, match=message):
        optim.trainable_labels({"a": jnp.ones(2)}, freeze)
