"""The head that marks landmarks' places: against torch, in the model, and what it must not do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vlm_jax.config import schema
from vlm_jax.models.backbones.networks import FINER, make_backbone
from vlm_jax.models.regions import RegionHead, area, area_vote

PATCHES = {"region_width": 8}
HYBRID = {
    "image_encoder": schema.ImageEncoderConfig(width=24, layers=1, heads=2, mlp=40, patch=32, stem="backbone"),
    "backbone": schema.BackboneConfig(name="resnet18", width_factor=0.125, depths=(1, 1, 1, 1)),
}


def torch_head(params, maps):
    """The same head of torch's layers, from the parameters of `RegionHead`."""

    def norm(x, name):
        p = params[name]
        weight, bias = (torch.tensor(np.asarray(p[k])) for k in ("scale", "bias"))
        return F.layer_norm(x.movedim(1, -1), (x.shape[1],), weight, bias, 1e-6).movedim(-1, 1)

    def conv(x, name, padding):
        return F.conv2d(x, torch.tensor(np.asarray(params[name]["kernel"])).permute(3, 2, 0, 1), padding=padding)

    maps = [torch.tensor(m).permute(0, 3, 1, 2) for m in maps]
    total = 0
    for i, x in enumerate(maps):
        x = conv(norm(x, f"norm_{i}"), f"conv_{i}", 0)
        total = total + F.interpolate(x, size=maps[0].shape[2:], mode="bilinear", align_corners=False)
    x = conv(torch.relu(norm(total, "norm_sum")), "conv_neighbours", 1).relu().movedim(1, -1)
    linear = params["linear"]
    return (x @ torch.tensor(np.asarray(linear["kernel"])) + torch.tensor(np.asarray(linear["bias"]))).numpy()


def test_the_head_equals_torch_s_layers():
    rng = np.random.default_rng(0)
    maps = [rng.normal(0, 2, (2, side, side, d)).astype(np.float32) for side, d in ((12, 5), (6, 7), (3, 9))]
    head = RegionHead(4, 16)
    params = jax.tree.map(
        lambda a: jnp.asarray(rng.normal(0, 0.3, a.shape), a.dtype), head.init(jax.random.key(0), maps)["params"]
    )
    found = head.apply({"params": params}, maps)
    assert found.shape == (2, 12, 12, 4)
    np.testing.assert_allclose(found, torch_head(params, maps), rtol=1e-4, atol=1e-4)


def test_the_vote_is_the_log_of_the_area_and_finite():
    logits = jnp.array([-4.595119, 0.0, 40.0, -80.0]).reshape(1, 1, 1, 4) * jnp.ones((1, 3, 3, 1))
    np.testing.assert_allclose(area(logits)[0], [0.01, 0.5, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(area_vote(logits)[0], np.log([1.001, 50.001, 100.001, 0.001]), atol=1e-5)
    gradient = jax.grad(lambda x: area_vote(x).sum())(logits)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", FINER)
def test_networks_hand_out_finer_maps_beside_the_same_last_one(name):
    depths = (1,) * (7 if name == "efficientnet_lite0" else 4)
    config = schema.BackboneConfig(name=name, width_factor=0.125, depths=depths)
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    plain, finer = make_backbone(config), make_backbone(config, finer=True)
    variables = plain.init(jax.random.key(0), image)
    assert jax.tree.map(jnp.shape, finer.init(jax.random.key(0), image)) == jax.tree.map(jnp.shape, variables)
    maps = finer.apply(variables, image)
    assert [m.shape[1:3] for m in maps] == [(8, 12), (4, 6), (2, 3)]
    np.testing.assert_array_equal(maps[-1], plain.apply(variables, image))


@pytest.mark.parametrize("model, side", [(PATCHES, 2), (PATCHES | HYBRID, 4)], ids=["patches", "network"])
def test_places_of_the_model_add_a_vote(make_small, make_batch, model, side):
    """16 pixels: two patches of 8 a side, or a finest map of stride 8 of the doubled image."""
    small = make_small(**model) if side == 2 else make_small(image_size=32, **model)
    batch = make_batch(image_size=small.config.data.image_size)
    with_vote = small(batch)
    assert with_vote.region_logits.shape == (3, side, side, 5)
    silent = {**small.params, "region_vote": jnp.zeros(5)}
    difference = with_vote.landmark_logits - small(batch, silent).landmark_logits
    np.testing.assert_allclose(
        difference, small.params["region_vote"] * area_vote(with_vote.region_logits), rtol=1e-4, atol=1e-4
    )
    batch.frame_mask = np.zeros_like(batch.frame_mask)
    blind = small(batch)
    np.testing.assert_array_equal(blind.landmark_logits, small(batch, silent).landmark_logits)


def test_only_the_frame_itself_has_places(make_small, make_batch):
    small, batch = make_small(frames=2, **PATCHES), make_batch(frames=2)
    before = small(batch).region_logits
    batch.image[:, 1] = 255 - batch.image[:, 1]
    np.testing.assert_array_equal(small(batch).region_logits, before)
    batch.image[:, 0] = 255 - batch.image[:, 0]
    assert (np.asarray(small(batch).region_logits) != before).any((1, 2, 3)).all()


def test_without_an_image_by_ablation_nothing_is_said_of_places(make_small, make_batch):
    small = make_small(no_image=True, **PATCHES)
    assert {"region_head", "region_vote"} <= set(small.params), "sizes unchanged"
    assert small(make_batch()).region_logits is None


def test_without_a_width_there_is_no_such_head(make_small, make_batch):
    small = make_small()
    assert not {"region_head", "region_vote"} & set(small.params)
    assert small(make_batch()).region_logits is None
