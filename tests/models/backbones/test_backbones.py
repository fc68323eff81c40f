"""Image backbones: sizes, shapes, drop-path, activations in bfloat16, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.config.schema import BackboneConfig
from vlm_jax.errors import UserError
from vlm_jax.models.backbones.efficientnet import scaled
from vlm_jax.models.backbones.networks import ImageClassifier, make_backbone
from vlm_jax.models.backbones.swin import relative_index, shift_mask
from vlm_jax.parallel.partition import param_name

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
NARROW = {
    "resnet18": BackboneConfig(name="resnet18", width_factor=0.125, depths=(1, 1, 2, 1)),
    "resnet50": BackboneConfig(name="resnet50", width_factor=0.125, depths=(1, 1, 2, 1)),
    "efficientnet_lite0": BackboneConfig(name="efficientnet_lite0", width_factor=0.25, depths=(1, 1, 1, 2, 1, 1, 1)),
    "swin_t": BackboneConfig(name="swin_t", width_factor=0.125, depths=(1, 1, 2, 1), window=4),
}
WIDTHS = {"resnet18": 64, "resnet50": 256, "efficientnet_lite0": 1280, "swin_t": 96}


@pytest.mark.parametrize(
    "name, parameters",
    [("resnet18", 11_689_512), ("resnet50", 25_557_032), ("efficientnet_lite0", 4_652_008), ("swin_t", 28_288_354)],
)
def test_published_sizes_with_the_classifier_of_imagenet(name, parameters):
    model = ImageClassifier(BackboneConfig(name=name), 1000)
    image = jnp.zeros((1, 224, 224, 3), jnp.uint8)
    tree = jax.eval_shape(lambda: model.init(jax.random.key(0), image)["params"])
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    counted = sum(math.prod(leaf.shape) for path, leaf in flat if "running_" not in param_name(path))
    assert counted == parameters


@pytest.mark.parametrize("name", NARROW)
def test_shapes_and_dtypes_of_maps_and_tokens(name):
    model = make_backbone(NARROW[name], jnp.bfloat16)
    image = jnp.zeros((4, 64, 64, 3), jnp.uint8)
    out, variables = jax.eval_shape(lambda key: model.init_with_output(key, image), jax.random.key(0))
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert out.shape == ((4, 4, WIDTHS[name]) if name == "swin_t" else (4, 2, 2, WIDTHS[name]))


@pytest.mark.parametrize(
    "name", ["resnet18", *(pytest.param(n, marks=pytest.mark.slow) for n in ("efficientnet_lite0", "swin_t"))]
)
def test_drop_path_draws_from_the_stream_dropout_and_only_in_training(name):
    model = make_backbone(dataclasses.replace(NARROW[name], drop_path=0.9))
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    params = jax.jit(model.init, compiler_options=QUICK)(jax.random.key(0), image)["params"]

    def train(key):
        return model.apply({"params": params}, image, True, rngs={"dropout": key})

    keys = jax.random.split(jax.random.key(1), 4)
    out = np.asarray(jax.jit(jax.vmap(train), compiler_options=QUICK)(keys))
    assert np.isfinite(out).all()
    assert any(not np.array_equal(out[0], other) for other in out[1:])
    jax.eval_shape(lambda: model.apply({"params": params}, image))  # needs no stream


def test_refusals_are_one_line():
    for config, size, match in (
        (BackboneConfig(name="vgg"), 64, "model.backbone.name is 'vgg'; expected one of resnet18, resnet50"),
        (
            BackboneConfig(name="swin_t", width_factor=0.1),
            64,
            "makes swin_t 10 channels wide; expected a multiple of 3",
        ),
        (BackboneConfig(name="swin_t"), 66, "image_size is 66; swin_t expects a multiple of 4"),
    ):
        image = jnp.zeros((1, size, size, 3), jnp.uint8)
        with pytest.raises(UserError, match=match) as caught:
            jax.eval_shape(lambda c=config, i=image: make_backbone(c).init(jax.random.key(0), i))
        assert "\n" not in str(caught.value)


def test_efficientnets_channels_are_multiples_of_8_and_not_far_below():
    assert [scaled(c, 1.0) for c in (16, 24, 320)] == [16, 24, 320]
    assert [scaled(c, 1.1) for c in (16, 24, 40, 80, 112, 192, 320)] == [16, 24, 48, 88, 120, 208, 352]  # Lite2's
    assert scaled(16, 0.1) == 8


def test_a_smaller_window_reads_the_middle_of_the_table():
    table = np.arange(13 * 13).reshape(13, 13)
    np.testing.assert_array_equal(table.reshape(-1)[relative_index(7, 7)].ravel()[[0, -1]], [84, 84])
    small = relative_index(3, 7)
    assert small[0, 0] == 84 and small[0, 1] == 83 and small[0, 3] == 84 - 13
    assert small.min() == 84 - 2 * 13 - 2 and small.max() == 84 + 2 * 13 + 2


def test_shifted_windows_keep_what_was_not_adjacent_apart():
    mask = shift_mask(8, 8, 4, 2)
    assert mask.shape == (4, 16, 16)
    assert not mask[0].any(), "the first window lies in the middle of the map"
    last = mask[3].reshape(4, 4, 4, 4)
    assert last[0, 0, 1, 1] == 0 and last[0, 0, 2, 0] == -100 and last[3, 3, 0, 3] == -100
