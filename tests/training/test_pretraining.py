"""Pre-training through the ordinary commands: it learns, resumes exactly, starts another model, and says what it is."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from vlm_jax import cli
from vlm_jax.checkpoint.store import restore_for_inference
from vlm_jax.config.load import load_config
from vlm_jax.errors import UserError
from vlm_jax.training.loop import train

PARTS = {"mae": "image_encoder", "mlm": "text_encoder"}


@pytest.fixture
def pretrain(toy_config):
    """pretrain(name, directory, steps) -> the parameters of the last step; runs in a directory go on there."""

    def run(name, where, steps):
        settings = {
            "train.batch_size": 4,
            "train.steps": steps,
            "checkpoint.every": 3,
            "eval.every": 0,
            "optim.warmup_steps": 1,
            "optim.end_lr_factor": 1.0,
        }
        pairs = [(key, str(value)) for key, value in settings.items()]
        assert train(toy_config(*pairs, spec=f"configs/pretrain/{name}.py:micro"), str(where)) == 0
        return restore_for_inference(str(where), "last").params

    return run


@pytest.mark.parametrize("name", PARTS)
def test_pre_training_learns_and_says_what_it_is_for(name, pretrain, tmp_path, capsys):
    pretrain(name, tmp_path / "run", 6)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["validation/loss"] for row in rows if "validation/loss" in row}
    assert list(losses) == [3, 6] and losses[6] < losses[3]
    assert f"--config.model.{PARTS[name]}.init=" in capsys.readouterr().err
    for command in ("evaluate --workdir", "predict x.jpg --checkpoint"):
        code = cli.main([*command.split(), str(tmp_path / "run")])
        said = capsys.readouterr().err.strip().splitlines()
        assert code == 2 and len(said) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_pre_training_resumes_exactly_and_starts_another_model(name, pretrain, toy_config, tmp_path):
    part = PARTS[name]
    whole = pretrain(name, tmp_path / "whole", 6)
    pretrain(name, tmp_path / "parts", 3)
    jax.tree.map(np.testing.assert_array_equal, whole, pretrain(name, tmp_path / "parts", 6))
    started = toy_config((f"model.{part}.init", str(tmp_path / "whole")), ("train.steps", "1"), ("optim.lr", "1e-12"))
    assert train(started, str(tmp_path / "model")) == 0
    taken = restore_for_inference(str(tmp_path / "model"), "last").params[part]
    kernels = [tree["blocks"]["layer_0"]["mlp"]["up"]["kernel"] for tree in (taken, whole[part])]
    np.testing.assert_allclose(*kernels, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "key", "value", "says"),
    [
        ("configs/pretrain/mae.py:micro", "tasks", "reconstruct,landmarks", "stands alone"),
        ("configs/pretrain/mae.py:micro", "tasks", "landmarks", "must be reconstruct"),
        ("configs/vlm.py:micro", "tasks", "mask_language", "configs/pretrain/mlm.py"),
        ("configs/vlm.py:micro", "augment.crop", "0.2", "a crop may cut out"),
        ("configs/pretrain/mae.py:micro", "model.mae.decoder_heads", "3", "divisible by 3"),
        ("configs/pretrain/mae.py:micro", "model.image_encoder.patch", "32", "leaves none or all of the 1 patches"),
    ],
)
def test_settings_that_do_not_fit_are_refused(spec, key, value, says):
    with pytest.raises(UserError, match=says):
        load_config(spec, [(key, value)])


@pytest.mark.parametrize("name", PARTS)
def test_unknown_presets_are_refused_and_the_others_are_whole(name):
    spec = f"configs/pretrain/{name}.py"
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        load_config(spec + ":tinny")
    assert load_config(spec).system == name
    mine, vlm = load_config(spec + ":tiny"), load_config("configs/vlm.py:tiny_vit")
    assert getattr(mine.model, PARTS[name]) == getattr(vlm.model, PARTS[name])
