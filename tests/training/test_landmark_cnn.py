"""A system without words: running statistics, resuming, starting from weights. Its commands: integration tests."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from vlm_jax import cli
from vlm_jax.config.load import load_config
from vlm_jax.decoding.system import System
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params
from vlm_jax.parallel.partition import logical_axes, param_name
from vlm_jax.weights.importer import Imported
from vlm_jax.weights.init import initialise
from vlm_jax.weights.store import write_imported

SPEC = "configs/baselines/landmark_cnn.py"
SMALL = {
    "data.image_size": "32",
    "model.backbone.width_factor": "0.0625",
    "model.backbone.depths": "1,1,1,1",
    "train.steps": "4",
    "train.batch_size": "8",
    "train.log_every": "1",
    "train.tensorboard": "false",
    "checkpoint.every": "2",
    "eval.batch_size": "8",
    "eval.bootstrap": "0",
    "eval.max_units": "8",
    "data.split": "kfold:3:0",
}


QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
"""Of compilation: these models run once."""


def arrays(model, config, seed: int):
    """Random parameters without compiling anything; positive, as variances must be."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: init_params(model, config, key), jax.random.key(0))
    return jax.tree.map(lambda a: rng.uniform(0.01, 0.1, a.shape).astype(np.float32), shapes)


def command(toy_path, workdir, **overrides: str) -> list[str]:
    settings = {**SMALL, "data.path": str(toy_path), **overrides}
    return ["train", "--config", f"{SPEC}:tiny", "--workdir", str(workdir)] + [
        f"--config.{key}={value}" for key, value in settings.items()
    ]


@pytest.fixture(scope="module")
def workdir(toy_path, tmp_path_factory):
    """Trained for four steps."""
    path = tmp_path_factory.mktemp("cnn") / "run"
    assert cli.main(command(toy_path, path)) == 0
    return path


def flat(tree):
    return {param_name(p): np.asarray(v) for p, v in jax.tree_util.tree_flatten_with_path(tree)[0]}


@pytest.mark.slow
def test_training_keeps_running_statistics(workdir):
    params = flat(System.from_checkpoint(str(workdir), "last").params)
    moved = [np.abs(v).max() for name, v in params.items() if name.endswith("running_mean")]
    assert len(moved) == 12 and min(moved) > 0


@pytest.mark.slow
def test_a_resumed_run_goes_on_where_it_was(workdir, toy_path, tmp_path):
    assert cli.main([*command(toy_path, tmp_path), "--config.train.steps=2"]) == 0
    assert cli.main([*command(toy_path, tmp_path), "--config.train.steps=4"]) == 0
    whole, parts = (flat(System.from_checkpoint(str(path), 2).params) for path in (workdir, tmp_path))
    assert whole.keys() == parts.keys()
    assert System.from_checkpoint(str(tmp_path), "last").meta["step"] == 4


def test_tasks_that_it_lacks_are_refused_in_one_line():
    config = load_config(f"{SPEC}:tiny", {"tasks": "landmarks,report"})
    with pytest.raises(UserError, match="landmark_cnn recognises landmarks and nothing else") as caught:
        build_model(config, 3, 100)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("init", [{}, {"model.backbone.depths": ""}])
def test_it_starts_from_imported_weights_or_says_what_differs(init, tmp_path):
    narrow = load_config(f"{SPEC}:tiny", SMALL)
    model = build_model(narrow, 3, 100)
    params = arrays(model, narrow, 1)["backbone"]
    fragment = {"name": "resnet18", "width_factor": 0.0625, "depths": (1, 1, 1, 1)}
    write_imported(Imported("backbone", "torchvision_resnet", {"backbone": params}, fragment), tmp_path / "weights")
    config = load_config(f"{SPEC}:tiny", {**SMALL, **init, "model.backbone.init": str(tmp_path / "weights")})
    fresh = arrays(build_model(config, 3, 100), config, 0)
    if init:
        with pytest.raises(UserError, match=r"depths is \(\) here and \(1, 1, 1, 1\) there"):
            initialise(fresh, config, ())
        return
    started, notices, _ = initialise(fresh, config, ())
    jax.tree.map(np.testing.assert_array_equal, started["backbone"], params)
    assert "backbone starts from" in notices[0]


def test_a_frame_that_is_not_there_changes_nothing():
    config = load_config(f"{SPEC}:tiny", SMALL)
    model = build_model(config, 3, 100)
    params = arrays(model, config, 0)
    image = np.random.default_rng(0).integers(0, 256, (2, 2, 32, 32, 3), dtype=np.uint8)
    mask, prompt = np.array([[True, False], [False, False]]), np.ones((2, 4, 5), np.int32)

    def logits(image, mask):
        encode = jax.jit(lambda *inputs: model.apply(*inputs, method="encode").landmark_logits, compiler_options=QUICK)
        return encode({"params": params}, image, mask, prompt)

    both, one = logits(image, mask), logits(image[:, :1], mask[:, :1])
    np.testing.assert_allclose(both, one, atol=1e-6)
    np.testing.assert_allclose(both[1], params["landmark_head"]["linear"]["bias"], atol=1e-6)


def test_swin_as_its_backbone_has_one_partition_rule_a_parameter():
    config = load_config(f"{SPEC}:tiny", {"model.backbone.name": "swin_t"})
    model = build_model(config, 3, 100)
    params = jax.eval_shape(lambda key: init_params(model, config, key), jax.random.key(0))
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        assert len(logical_axes(param_name(path), leaf.ndim)) == leaf.ndim
