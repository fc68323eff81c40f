"""What `vlm-jax inspect` says, against counts made another way."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from vlm_jax import cli
from vlm_jax.config.load import load_config
from vlm_jax.contract import TASKS
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params
from vlm_jax.training import inspection
from vlm_jax.training.guards import init_guard

PUBLISHED = {"light": 61.03e6, "base": 175.94e6}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_the_published_sizes_within_one_per_cent(preset, capsys):
    assert cli.main(["inspect", "--config", f"configs/vlm.py:{preset}", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert abs(report["parameters"] / PUBLISHED[preset] - 1) < 0.01
    assert sum(report["parts"].values()) == report["parameters"]
    assert sum(int(np.prod(row["shape"])) for row in report["shardings"]) == report["parameters"]


@pytest.mark.parametrize("preset", ["tiny", "tiny_vit"])
def test_tiny_has_about_two_million_parameters(preset):
    report = inspection.inspect_run(load_config(f"vlm:{preset}"))
    assert 1.8e6 < report["parameters"] < 2.6e6
    assert report["parts"]["other"] < 1e5, "the network before the transformer is of the image encoder"


def test_counts_and_bytes_are_those_of_real_arrays():
    config = load_config("vlm:micro", {"optim.ema": "0.99"})
    report = inspection.inspect_run(config)
    model = build_model(config, inspection.DEFAULT_LANDMARKS, config.data.vocab_size)
    params = jax.jit(lambda key: init_params(model, config, key))(jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert report["parameters"] == count
    # Parameters, two moments and the moving average in float32; the guard's window; the rest are counters and the key.
    guard = sum(leaf.nbytes for leaf in jax.tree.leaves(init_guard(config.guard)))
    assert 0 <= report["bytes_per_device"] - 16 * count - guard < 64
    assert report["mesh"] == {"data": jax.device_count(), "fsdp": 1, "tensor": 1}


def test_flops_do_not_depend_on_how_layers_are_written():
    unrolled = load_config("vlm:micro", {"model.image_encoder.layers": "3"})
    scanned = load_config("vlm:micro", {"model.image_encoder.layers": "3", "model.scan_layers": "1"})
    flops = [inspection.flops_per_example(inspection.make_subject(config)) for config in (unrolled, scanned)]
    assert flops[0] == flops[1] > 1e6
    deeper = load_config("vlm:micro", {"model.image_encoder.layers": "4"})
    assert inspection.flops_per_example(inspection.make_subject(deeper)) > flops[0]


def test_the_batch_is_the_contract():
    report = inspection.inspect_run(load_config("vlm:micro", {"data.target_length": "24", "data.prompt_length": "64"}))
    assert report["batch"]["image"] == [[8, 1, 32, 32, 3], "uint8"]
    assert report["batch"]["prompt"] == [[8, len(TASKS), 64], "int32"]
    assert report["batch"]["target"] == [[8, len(TASKS), 24], "int32"]


def test_a_compiled_step_says_its_memory(capsys):
    command = ["inspect", "--config", "configs/vlm.py:micro,no_text", "--compile"]
    assert cli.main([*command, "--config.loss.landmarks=class_balanced", "--config.loss.weighting=learned"]) == 0
    out = capsys.readouterr().out
    assert "compiled step    temporary" in out and "peak" in out and "image_encoder" in out


def test_eight_devices_that_this_machine_need_not_have(repository):
    command = [sys.executable, "-m", "vlm_jax", "inspect", "--config", "configs/vlm.py:micro", "--json"]
    command += ["--devices", "8", "--config.parallel.fsdp=4", "--config.parallel.tensor=2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository, env={**os.environ}, check=True)
    report = json.loads(done.stdout)
    whole = inspection.inspect_run(load_config("vlm:micro"))
    assert report["mesh"] == {"data": 1, "fsdp": 4, "tensor": 2}
    assert report["parameters"] == whole["parameters"]
    assert whole["bytes_per_device"] / 8 <= report["bytes_per_device"] < whole["bytes_per_device"] / 3
    assert any(row["spec"] for row in report["shardings"])
    assert report["left_whole"]["undivided"] == [] and "image_encoder/norm/scale" in report["left_whole"]["by rule"]


def test_devices_and_batches_that_cannot_be_are_one_line(capsys):
    assert cli.main(["inspect", "--config", "configs/vlm.py:micro", "--devices", "-2"]) == 2
    assert "--devices -2: give how many CPU devices" in capsys.readouterr().err
    subject = inspection.make_subject(load_config("configs/vlm.py:micro"))

    class ThreeShards:
        axis_names, devices = ("data", "fsdp", "tensor"), np.empty((3, 1, 1), object)

    subject = dataclasses.replace(subject, mesh=ThreeShards())
    batch = inspection.abstract_batch(subject.config, 8, subject.n_landmarks)
    with pytest.raises(UserError, match="train.batch_size=8 does not divide among 3"):
        inspection.compile_train_step(subject, batch)
