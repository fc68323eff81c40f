"""Partition tables: one rule a parameter, a golden file of the specs, and what happens to odd sizes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from vlm_jax.config import schema
from vlm_jax.config.load import load_config, presets
from vlm_jax.config.schema import ParallelConfig
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params
from vlm_jax.parallel import partition
from vlm_jax.parallel.mesh import make_mesh

GOLDEN = Path(__file__).parent / "golden" / "tiny_vit_specs.json"


def abstract_params(preset: str, n_tokens: int = 700, **overrides: str):
    config = load_config(f"configs/vlm.py:{preset}", list(overrides.items()))
    model = build_model(config, 20, n_tokens)
    return jax.eval_shape(lambda key: init_params(model, config, key), jax.random.key(0))


def named(tree) -> dict:
    flat = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: isinstance(x, PartitionSpec))[0]
    return {partition.param_name(path): leaf for path, leaf in flat}


def mesh_of(data: int, fsdp: int, tensor: int) -> AbstractMesh:
    return AbstractMesh((data, fsdp, tensor), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def test_specs_of_tiny_vit_are_the_golden_ones():
    """UPDATE_GOLDEN=1 rewrites the file; read the difference before committing it."""
    specs = {name: list(spec) for name, spec in named(partition.param_specs(abstract_params("tiny_vit"))).items()}
    if os.environ.get("UPDATE_GOLDEN"):
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(spec)}" for name, spec in sorted(specs.items()))
        GOLDEN.write_text("{\n" + lines + "\n}\n")
    assert specs == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize(
    "preset", ["light", "base", "tiny", "tiny_vit", "micro", "tiny,no_cross_attention", "tiny,tasks=report"]
)
def test_every_parameter_is_matched_by_exactly_one_rule(preset):
    for name, leaf in named(abstract_params(preset)).items():
        assert len(partition.logical_axes(name, leaf.ndim)) == leaf.ndim


VARIANTS = (
    ("configs/vlm.py:tiny", {"model.image_encoder.width": "64"}),
    ("configs/vlm.py:tiny", {"data.frames": "2", "model.condition_on_landmarks": "true", "model.region_width": "64"}),
    ("configs/baselines/landmark_cnn.py:tiny", {"model.backbone.name": "swin_t"}),
    ("configs/baselines/navigation_seq2seq.py:lstm,tiny", {}),
    ("configs/baselines/navigation_seq2seq.py:tiny", {"model.seq2seq.positions": "learned"}),
)
"""Configurations with parameters that the tiny presets do not have."""


def test_every_rule_matches_something_and_every_system_is_matched():
    names = {"task_log_variance"}
    for spec, overrides in (*((f"{file}:tiny", {}) for file in presets() if file != "configs/study.py"), *VARIANTS):
        config = load_config(spec, overrides)
        model = build_model(config, 20, 700)
        params = jax.eval_shape(lambda key, m=model, c=config: init_params(m, c, key), jax.random.key(0))
        partition.param_specs(params)
        names |= set(named(params))
    unused = [pattern for pattern, _ in partition.RULES if not any(re.fullmatch(pattern, n) for n in names)]
    assert not unused


def test_what_a_mesh_leaves_whole_is_named_with_the_reason():
    params = abstract_params("light")
    found = {fsdp: partition.left_whole(mesh_of(1, fsdp, 1), params) for fsdp in (1, 128, 256)}
    assert found[1] == {"undivided": [], "by rule": []}
    assert found[128]["undivided"] == [] and "image_encoder/class_token" in found[128]["by rule"]
    assert found[256]["by rule"] == found[128]["by rule"]
    widths = {name: leaf.shape for name, leaf in named(params).items()}
    kernels = {name for name in widths if "attention/" in name and name.endswith("kernel")}
    assert kernels < set(found[256]["undivided"])
    assert all(size % 256 for name in found[256]["undivided"] for size in widths[name]), "256 divides no side"
    assert len(found[256]["undivided"]) + len(found[256]["by rule"]) < len(widths), "the rest is split"


def test_a_parameter_without_a_rule_is_named():
    with pytest.raises(ValueError, match="'decoder/new_part/kernel' is matched by 0 rules"):
        partition.param_specs({"decoder": {"new_part": {"kernel": jnp.zeros((2, 2))}}})


def test_a_parameter_with_two_rules_is_named(monkeypatch):
    monkeypatch.setattr(partition, "RULES", (*partition.RULES, (r".*_bias", ("vocab",))))
    with pytest.raises(ValueError, match="'token_bias' is matched by 2 rules"):
        partition.param_specs({"token_bias": jnp.zeros(3)})


def test_a_rule_of_another_rank_is_named():
    with pytest.raises(ValueError, match="'token_bias' has 2 dimensions"):
        partition.param_specs({"token_bias": jnp.zeros((3, 1))})


def test_a_scanned_stack_has_one_axis_more():
    unrolled = named(partition.param_specs(abstract_params("tiny")))
    scanned = named(partition.param_specs(abstract_params("tiny", **{"model.scan_layers": "true"})))
    name = "image_encoder/blocks/{}/attention/query/kernel"
    assert tuple(scanned[name.format("layers")]) == (None, *unrolled[name.format("layer_0")])


def test_light_and_base_split_over_all_of_fsdp_and_tensor():
    shardings = named(partition.param_shardings(mesh_of(1, 128, 2), abstract_params("light")))
    assert shardings["text_encoder/word_embedding"].spec == PartitionSpec("tensor", "fsdp")
    assert shardings["text_encoder/blocks/layer_0/mlp/up/kernel"].spec == PartitionSpec("fsdp", "tensor")
    assert shardings["image_encoder/blocks/layer_0/attention/out/kernel"].spec == PartitionSpec("tensor", None, "fsdp")


def test_dimensions_that_do_not_divide_stay_whole():
    shardings = named(partition.param_shardings(mesh_of(1, 256, 2), abstract_params("tiny", n_tokens=701)))
    assert shardings["text_encoder/word_embedding"].spec == PartitionSpec(None, None)
    assert shardings["token_bias"].spec == PartitionSpec(None)
    assert shardings["image_encoder/blocks/layer_0/mlp/up/kernel"].spec == PartitionSpec(None, "tensor")


def test_fsdp_splits_another_side_where_it_does_not_divide_the_first():
    shardings = named(partition.param_shardings(mesh_of(1, 256, 1), abstract_params("light")))
    assert shardings["text_encoder/word_embedding"].spec == PartitionSpec("fsdp", None), "30,720 rows, not 384 columns"
    assert shardings["image_encoder/blocks/layer_0/mlp/up/kernel"].spec == PartitionSpec(None, "fsdp")
    assert shardings["image_encoder/norm/scale"].spec == PartitionSpec(None), "no rule splits it: it stays whole"
    with_tensor = named(partition.param_shardings(mesh_of(1, 256, 2), abstract_params("light")))
    assert with_tensor["text_encoder/word_embedding"].spec == PartitionSpec("tensor", None), "a side has one axis"
    scanned = abstract_params("light", **{"model.scan_layers": "true", "model.image_encoder.layers": "256"})
    shardings = named(partition.param_shardings(mesh_of(1, 256, 1), scanned))
    name = "image_encoder/blocks/layers/attention/query/kernel"
    assert "fsdp" not in shardings[name].spec, "layers are a loop, which splits nothing"


def test_heads_that_do_not_divide_are_one_line():
    with pytest.raises(UserError, match="parallel.tensor=4 does not divide the 6 heads of image_encoder") as caught:
        partition.param_shardings(mesh_of(1, 1, 4), abstract_params("light"))
    assert "\n" not in str(caught.value)


def test_batches_split_over_data_and_fsdp():
    mesh = make_mesh(ParallelConfig(), jax.devices()[:1])
    sharding = partition.batch_sharding(mesh)
    assert sharding.spec == PartitionSpec(("data", "fsdp"))
    assert jax.device_put(np.zeros((4, 2, 3)), sharding).shape == (4, 2, 3)


def test_constrain_batch_is_nothing_where_there_is_nothing_to_split(monkeypatch):
    x = jnp.ones((6, 2))
    assert partition.constrain_batch(x) is x
    with jax.set_mesh(make_mesh(ParallelConfig(), jax.devices()[:1])):
        assert partition.constrain_batch(x) is x
    with jax.set_mesh(jax.make_mesh((1,), ("other",), devices=jax.devices()[:1])):
        assert partition.constrain_batch(x) is x
    monkeypatch.setattr(jax.sharding, "get_abstract_mesh", lambda: mesh_of(2, 2, 1))
    assert partition.constrain_batch(x) is x, "6 does not divide by 4"
    monkeypatch.setattr(jax.lax, "with_sharding_constraint", lambda x, spec: SimpleNamespace(spec=spec))
    assert partition.constrain_batch(x[:4]).spec == PartitionSpec(("data", "fsdp"))


def test_schema_has_the_axes():
    assert {"data", "fsdp", "tensor"} <= set(schema.ParallelConfig.__dataclass_fields__)
