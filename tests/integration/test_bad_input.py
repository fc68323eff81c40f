"""Bad input to every command: one clear line, the exit code, nothing half-written, no traceback."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

from vlm_jax.checkpoint import manifest
from vlm_jax.checkpoint.meta import Meta
from vlm_jax.checkpoint.store import Store
from vlm_jax.cli import main
from vlm_jax.config import load as config_io
from vlm_jax.config.load import dump, load_config
from vlm_jax.data import files
from vlm_jax.data.sources.vocalfolds import LABELS
from vlm_jax.models import build_model, init_params
from vlm_jax.text.tokenizer import Tokenizer
from vlm_jax.training import loop, program

SPEC = "configs/vlm.py:micro,tasks=landmarks+describe"
N_CLASSES = 7
SIDE = 32


def write_source(root: Path) -> Path:
    """Three patients, one sequence each, of six larynx-like images with masks."""
    rng = np.random.default_rng(0)
    for patient in ("1", "2", "3"):
        for kind in ("img", "annot"):
            (root / kind / patient / "s").mkdir(parents=True)
        for number in range(6):
            mask = np.full((SIDE, SIDE), 2, np.uint8)
            mask[8:20, 8:20] = 1 + (number // 2 + int(patient)) % (N_CLASSES - 1)
            colours = rng.integers(0, 255, (N_CLASSES, 3), dtype=np.uint8)
            Image.fromarray(colours[mask]).save(root / "img" / patient / "s" / f"{number}.png")
            Image.fromarray(mask).save(root / "annot" / patient / "s" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """source/, data/ built from it, and run/ with one checkpoint of fresh parameters, as `train` leaves them."""
    root = tmp_path_factory.mktemp("clean")
    source = write_source(root / "source")
    assert main(["data", "build", "--source", "vocalfolds", "--input", str(source), "--out", str(root / "data")]) == 0
    config = load_config(SPEC, settings(root))
    tokenizer = Tokenizer.train(["pathology at the centre of the glottal space"], 80)
    labels = tuple(f"vocalfolds/{name}" for name in LABELS)
    model = build_model(config, len(labels), tokenizer.size)
    params = jax.jit(lambda key: init_params(model, config, key))(jax.random.key(0))
    store = Store(root / "run")
    meta = Meta(config, labels, tokenizer.to_json(), metrics={"loss": 1.0})
    store.save(1, params=params, ema=None, train={"step": np.int32(1)}, meta=meta)
    store.close()
    dump(config, root / "run" / "config.json")
    return root


def settings(root: Path, steps: int = 1) -> list[tuple[str, str]]:
    """A model of one layer each, for the compiler's time is the test's time."""
    values = {
        "data.path": root / "data", "data.split": "kfold:3:0", "data.target_length": 8, "data.prompt_length": 16,
        "train.steps": steps, "train.batch_size": 4, "train.tensorboard": "false", "eval.batch_size": 4,
        "model.image_encoder.layers": 1, "model.text_encoder.layers": 1, "model.decoder.layers": 1,
    }  # fmt: skip
    return [(key, str(value)) for key, value in values.items()]


def train_argv(root: Path, steps: int = 1, *more: str) -> list[str]:
    overrides = [f"--config.{key}={value}" for key, value in settings(root, steps)]
    return ["train", "--config", SPEC, "--workdir", str(root / "run"), *overrides, *more]


@pytest.fixture
def run_copy(clean, tmp_path):
    """A copy of the run that a test may spoil; its data stays where it is."""
    shutil.copytree(clean / "run", tmp_path / "run")
    return tmp_path


@pytest.fixture
def refused(capsys):
    """fn(argv, said, code=2): runs a command line and checks its one line; gives the line."""

    def check(argv, *said: str, code: int = 2) -> str:
        capsys.readouterr()
        assert main([str(word) for word in argv]) == code
        captured = capsys.readouterr()
        errors = [line for line in captured.err.splitlines() if "error" in line.lower() or "Traceback" in line]
        assert len(errors) == 1 and errors[0].startswith("vlm-jax: error: "), captured.err
        assert captured.err.splitlines()[-1] == errors[0], "the error is the last thing said"
        assert captured.out == ""
        for words in said:
            assert words in errors[0]
        return errors[0]

    return check


def spoil_image(path: Path, how: str) -> Path:
    """Puts something else in an image's place; gives the path of what is now bad."""
    if how == "missing":
        path.unlink()
        return path
    if how == "16-bit grey":
        Image.fromarray(np.full((SIDE, SIDE), 40000, np.uint16)).save(path)
        return path
    if how == "16-bit":
        assert cv2.imwrite(str(path), np.full((SIDE, SIDE, 3), 40000, np.uint16))
        return path
    jpeg = path.with_suffix(".jpg")
    path.unlink()
    if how == "CMYK":
        Image.new("CMYK", (SIDE, SIDE)).save(jpeg)
    else:
        noise = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(jpeg)
        jpeg.write_bytes(jpeg.read_bytes()[:-200])
    return jpeg


BAD = ("missing", "truncated", "CMYK", "16-bit", "16-bit grey")


@pytest.mark.parametrize("how", BAD)
def test_predict_of_a_bad_image(clean, tmp_path, refused, how):
    good = tmp_path / "good.png"
    Image.new("RGB", (SIDE, SIDE)).save(good)
    bad = spoil_image(Path(shutil.copy(good, tmp_path / "bad.png")), how)
    out = tmp_path / "out.jsonl"
    refused(["predict", "--checkpoint", clean / "run", good, bad, "--out", out], str(bad))
    assert not out.exists() and not list(tmp_path.glob("*.partial*"))


@pytest.mark.parametrize("how", BAD)
def test_build_from_a_bad_image(tmp_path, refused, how):
    source = write_source(tmp_path / "source")
    bad = spoil_image(source / "img" / "2" / "s" / "3.png", how)
    named = bad if how != "missing" else source / "annot" / "2" / "s" / "3.png"
    refused(["data", "build", "--source", "vocalfolds", "--input", source, "--out", tmp_path / "out"], str(named))
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_build_with_an_unknown_label(tmp_path, refused):
    source = write_source(tmp_path / "source")
    mask = source / "annot" / "1" / "s" / "0.png"
    Image.fromarray(np.full((SIDE, SIDE), 9, np.uint8)).save(mask)
    refused(
        ["data", "build", "--source", "vocalfolds", "--input", source, "--out", tmp_path / "out"],
        str(mask), "value 9", "expected 0-6",
    )  # fmt: skip
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_empty_sets(clean, tmp_path, refused):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(["data", "build", "--source", "vocalfolds", "--input", empty, "--out", tmp_path / "out"], "has no folders")
    refused(["data", "build", "--source", "operative_notes", "--input", empty, "--out", tmp_path / "out"], ".jsonl")
    refused([*train_argv(tmp_path), f"--config.data.path={empty}"], "not a data set", str(empty))
    refused(["evaluate", "--workdir", clean / "run", "--data", empty, "--out", tmp_path / "eval"], "not a data set")
    refused(["predict", "--checkpoint", clean / "run", empty], "holds no image", str(empty))
    refused(["data", "check", empty], "not a data set")
    assert not (tmp_path / "out").exists() and not (tmp_path / "eval").exists()


def test_misspelt_names(clean, tmp_path, refused):
    refused(train_argv(tmp_path, 1, "--config.optim.lrr=1e-3"), "optim.lrr", "did you mean")
    refused(train_argv(tmp_path, 1, "--config.train.steps=many"), "train.steps", "many")
    refused(["train", "--config", "configs/vlm.py:mirco", "--workdir", tmp_path / "run"], "mirco", "did you mean")
    refused(["data", "build", "--source", "vocalfold", "--input", tmp_path, "--out", tmp_path / "o"], "vocalfolds")
    refused(["predict", "--checkpont", clean / "run", "a.png"], "--checkpoint")
    assert not (tmp_path / "run").exists()


def test_checkpoints_that_are_not_there(tmp_path, clean, refused):
    image = clean / "source" / "img" / "1" / "s" / "0.png"
    refused(["predict", "--checkpoint", tmp_path / "none", image], "does not exist")
    refused(["predict", "--checkpoint", tmp_path, image], "no complete checkpoint")
    refused(["predict", "--checkpoint", clean / "run", "--step", "7", image], "step 7", "it has 1")
    refused(["evaluate", "--checkpoint", tmp_path / "none"], "does not exist")


def edit(path: Path, keys: tuple[str, ...], value: int) -> None:
    """Changes one number in a JSON file."""
    tree = json.loads(path.read_text())
    inner = tree
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(tree))


def test_a_checkpoint_of_another_shape(clean, run_copy, refused):
    other = "--config.model.decoder.mlp=48"
    refused(train_argv(run_copy, 2, f"--config.data.path={clean / 'data'}", other), "another configuration",
            "model.decoder.mlp", "--workdir")  # fmt: skip
    edit(run_copy / "run" / "config.json", ("model", "decoder", "mlp"), 48)
    refused(train_argv(run_copy, 2, f"--config.data.path={clean / 'data'}", other), "does not fit", "decoder")

    step = run_copy / "run" / "checkpoints" / "1"
    edit(step / "meta" / "metadata", ("config", "model", "decoder", "mlp"), 48)
    manifest.rewrite(epath.Path(step), "meta/metadata", (step / "meta" / "metadata").read_text())  # not damage
    image = clean / "source" / "img" / "1" / "s" / "0.png"
    refused(["predict", "--checkpoint", run_copy / "run", image], "does not fit", "decoder")
    refused(["evaluate", "--workdir", run_copy / "run"], "does not fit")


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_in_predict(clean, refused):
    image = clean / "source" / "img" / "1" / "s" / "0.png"
    refused(["predict", "--checkpoint", clean / "run", image, "--out", "/dev/full"], "disk is full", code=1)


def test_a_full_disk_in_build(tmp_path, monkeypatch, refused):
    source = write_source(tmp_path / "source")
    argv = ["data", "build", "--source", "vocalfolds", "--input", source, "--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", no_space)
        refused(argv, "no space left", "run the same command again", code=1)
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert main([str(word) for word in argv]) == 0


class StandInValidator:
    def __init__(self, run):
        del run

    def __call__(self, params, poll=None):
        return {"loss": 1.0}

    def decisions(self, params, poll=None):
        return {}, {}


def test_a_full_disk_in_training(clean, tmp_path, monkeypatch, refused):
    """The disk fills while step 1 is saved; step and validation are stand-ins, for only the saving matters here."""
    still = jax.jit(lambda state, batch: (state, {"loss": np.float32(1), "skipped": np.int32(0)}))
    monkeypatch.setattr(program, "make_train_step", lambda *_: still)
    monkeypatch.setattr(loop, "Validator", StandInValidator)
    monkeypatch.setattr(manifest, "write", no_space)
    argv = train_argv(tmp_path, 1, f"--config.data.path={clean / 'data'}")
    refused(argv, "disk is full", "same command", code=1)
    assert not list((tmp_path / "run").rglob("MANIFEST.json")), "a step without its manifest is not complete"


def test_a_full_disk_before_training(clean, tmp_path, monkeypatch, refused):
    monkeypatch.setattr(config_io, "dump", no_space)
    refused(train_argv(tmp_path, 1, f"--config.data.path={clean / 'data'}"), "disk is full", code=1)
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
