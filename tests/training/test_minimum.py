"""The least traffic of a step: counted by hand, held against compiled steps, and a planted gather that is seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from vlm_jax.config.load import load_config
from vlm_jax.errors import UserError
from vlm_jax.models import build_model
from vlm_jax.training import inspection
from vlm_jax.training.minimum import activation_terms, minimum, parameter_terms

TOY = {
    "data.image_size": "16",  # patches of 8: 4, and the class token
    "data.prompt_length": "6",
    "data.target_length": "4",
    "model.image_encoder.width": "8",
    "model.text_encoder.width": "4",
    "model.image_encoder.heads": "2",
    "model.text_encoder.heads": "2",
    "model.decoder.heads": "2",
    "model.vocab_size": "10",
    "model.dtype": "float32",
}


def abstract(shape, mesh, *spec):
    whole = AbstractMesh(tuple(mesh.values()), tuple(mesh), axis_types=(AxisType.Auto,) * 3)
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(whole, PartitionSpec(*spec)))


def by_kind(terms):
    found: dict[tuple[str, str], float] = {}
    for term in terms:
        if term.sent:
            found[term.kind, term.axes] = found.get((term.kind, term.axes), 0) + term.sent
    return found


def test_parameters_by_hand():
    mesh = {"data": 2, "fsdp": 4, "tensor": 2}
    params = {
        "split": abstract((8, 6), mesh, "fsdp", "tensor"),  # 24 numbers of 4 bytes on a tensor half: 96 bytes
        "whole": abstract((10,), mesh, None),  # 40 bytes, all-reduced among 8
        "table": abstract((10, 8), mesh, None, "fsdp"),  # of 320 bytes the 3 rows that are read: 96
    }
    found = by_kind(parameter_terms(params, mesh, {"table": 3}))
    assert found == {
        ("all-gather", "fsdp"): pytest.approx(3 / 4 * (96 + 96)),
        ("reduce-scatter", "fsdp"): pytest.approx(3 / 4 * (96 + 96)),
        ("all-reduce", "data"): pytest.approx(2 * 1 / 2 * (96 + 96) / 4),
        ("all-reduce", "data+fsdp"): pytest.approx(2 * 7 / 8 * 40),
    }


def test_gradients_of_products_are_sent_in_the_type_of_activations():
    mesh = {"data": 2, "fsdp": 1, "tensor": 1}
    params = {
        "text_encoder": {"word_embedding": abstract((4, 2), mesh)},  # 32 bytes in float32
        "kernel": abstract((3, 5), mesh),  # 30 in bfloat16
        "scale": abstract((5,), mesh),  # 20 in float32
    }
    found = by_kind(parameter_terms(params, mesh, {}, item=2))
    assert found == {("all-reduce", "data"): pytest.approx(32 + 30 + 20)}


def test_activations_by_hand():
    config = load_config("vlm:micro", TOY)
    terms = list(activation_terms(build_model(config, 5, 10), config, {"data": 1, "fsdp": 1, "tensor": 2}, 3))
    assert {term.kind for term in terms} == {"all-reduce"} and {term.axes for term in terms} == {"tensor"}
    # Among 2 a device sends as many bytes as it reduces. Numbers of an image: 5 tokens of 8; of 3 prompts: 18 of 4; of
    # the decoder's 3 texts: 3 * 3 = 9 of 4. One layer each, twice forward and twice backward.
    image, prompts, texts = 5 * 8, 3 * 6 * 4, 3 * 3 * 4
    layers = 4 * image + 4 * prompts + 6 * texts
    words = prompts + texts + texts  # looked up twice, and the gradient of the last states
    image_to_text = 2 * 4 * 8 + 6 * 4  # 4 patches ask; the landmarks' prompt is asked
    text_to_image = 2 * 3 * 6 * 4 + image
    memory = 3 * 6 * 4 + 5 * 4  # prompts and image, the image at the text's width
    softmax = 3 * 3 * 3
    numbers = layers + words + image_to_text + text_to_image + memory + softmax
    assert sum(term.sent for term in terms) == pytest.approx(3 * 4 * numbers)
    alone = load_config("vlm:micro", {**TOY, "tasks": "landmarks"})
    only = list(activation_terms(build_model(alone, 5, 10), alone, {"data": 1, "fsdp": 1, "tensor": 2}, 3))
    assert sum(term.sent for term in only) == pytest.approx(3 * 4 * (4 * image + 5 * 6 * 4 + image_to_text))


def test_what_is_not_counted_is_refused():
    remat = ("vlm:micro", {"model.remat": "true"})
    for spec, settings in (("vlm:micro,no_cross_attention", {}), remat, ("vlm:tiny", {})):
        with pytest.raises(UserError, match="the least traffic is known of"):
            minimum(inspection.make_subject(load_config(spec, settings)), 8)


def test_one_device_sends_nothing():
    assert minimum(inspection.make_subject(load_config("vlm:micro", {})), 8) == []


def compiled(*words):
    """What scaled_steps.py prints, one row a mesh."""
    script = Path(__file__).parent / "scaled_steps.py"
    # LLVM's optimisations do not touch what is sent.
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    flags += " --xla_cpu_use_fusion_emitters=false"
    command, env = [sys.executable, str(script), *words], {**os.environ, "XLA_FLAGS": flags}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=script.parents[2], env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(600)
def test_a_compiled_step_sends_the_minimum_and_planted_gathers_are_named():
    clean, planted = compiled("2x1x2", "planted", "2x1x2")
    assert 0.99 < clean["ratio"] < 1.05 and clean["unplanned"] == [], clean
    assert planted["ratio"] > clean["ratio"]
    assert len(planted["unplanned"]) >= 2 and all("over tensor, 2 devices" in line for line in planted["unplanned"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_on_other_meshes_too():
    for row in compiled("4x1x1", "1x4x1", "2x2x1"):
        assert 0.99 < row["ratio"] < 1.05 and row["unplanned"] == [], row
