"""Starting from weights: what is filled, what keeps its random start, what is refused with the setting to change."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import jax
import numpy as np
import pytest

from vlm_jax.config.load import load_config
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params
from vlm_jax.text.tokenizer import Tokenizer
from vlm_jax.weights.importer import Imported
from vlm_jax.weights.init import initialise
from vlm_jax.weights.store import write_imported
from vlm_jax.weights.vocabulary import tokens_of

TOKENIZER = Tokenizer.train(["the nasal septum and the left middle concha"] * 3, 128)
TOKENS = tokens_of(TOKENIZER.to_json())


def make_config(*overrides: tuple[str, str]) -> Any:
    return load_config("configs/vlm.py:micro", overrides)


def fresh(config: Any) -> Any:
    """Random parameters of a run, as numpy arrays."""
    model = build_model(config, 3, len(TOKENS))
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_params(model, config, jax.random.key(0)))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def plain():
    return fresh(make_config())


def source(plain: Any, part: str, tokenizer: Tokenizer | None = None, **config: Any) -> Imported:
    """An imported part whose arrays all differ from the fresh ones."""
    rng = np.random.default_rng(1)
    draw = lambda leaf: rng.normal(size=leaf.shape).astype(np.float32)  # noqa: E731
    section = dataclasses.asdict(getattr(make_config().model, part))
    extra = {"image_size": 32} if part == "image_encoder" else {"vocab_size": len(TOKENS)}
    params = {part: jax.tree.map(draw, plain[part])}
    return Imported(part, "test", params, {**section, **extra, **config}, (), tokenizer and tokenizer.to_json())


def test_image_encoder_starts_from_its_directory(plain, tmp_path):
    imported = source(plain, "image_encoder")
    write_imported(imported, tmp_path / "w")
    config = make_config(("model.image_encoder.init", str(tmp_path / "w")))
    params, notices, _ = initialise(plain, config, TOKENS)
    jax.tree.map(np.testing.assert_array_equal, params["image_encoder"], imported.params["image_encoder"])
    assert params["text_encoder"] is plain["text_encoder"]
    assert notices == [f"model.image_encoder.init: image_encoder starts from {tmp_path / 'w'} (layout test)"]
    assert initialise(plain, make_config(), TOKENS) == (plain, [], ())


def test_positions_are_interpolated_to_the_run_s_images(plain, tmp_path):
    imported = source(plain, "image_encoder", mean=(0.5, 0.5, 0.5))
    write_imported(imported, tmp_path / "w")
    config = make_config(("model.image_encoder.init", str(tmp_path / "w")), ("data.image_size", "48"))
    params, notices, _ = initialise(fresh(config), config, TOKENS)
    assert params["image_encoder"]["position_embedding"].shape == (37, 32)
    assert "interpolated from 17 to 37" in notices[0]
    assert "normalised otherwise: --config.model.image_encoder.mean=0.5,0.5,0.5" in notices[0]


def test_vocabulary_rows_are_matched_by_their_tokens(plain, tmp_path):
    other = Tokenizer.train(["a septum of the nose, the middle concha"] * 3, 128)
    imported = source(plain, "text_encoder", other)
    table = np.random.default_rng(2).normal(size=(other.size, 32)).astype(np.float32)
    imported.params["text_encoder"]["word_embedding"] = table
    write_imported(imported, tmp_path / "w")
    params, notices, _ = initialise(plain, make_config(("model.text_encoder.init", str(tmp_path / "w"))), TOKENS)
    ids, new = {t: i for i, t in enumerate(tokens_of(other.to_json()))}, 0
    for i, token in enumerate(TOKENS):
        row = params["text_encoder"]["word_embedding"][i]
        new += token not in ids
        expected = table[ids[token]] if token in ids else plain["text_encoder"]["word_embedding"][i]
        np.testing.assert_array_equal(row, expected)
    assert new, "some tokens must be new, or nothing was tested"
    assert f"{new} of {len(TOKENS)} vocabulary rows are new" in notices[0]


@pytest.mark.parametrize("scanned", ["source", "run"])
def test_scanned_and_unrolled_layers_fit_each_other(scanned, tmp_path):
    layers, scan = ("model.image_encoder.layers", "2"), ("model.scan_layers", "true")
    source_config = make_config(layers, *([scan] if scanned == "source" else []))
    imported = source(fresh(source_config), "image_encoder", layers=2)
    write_imported(imported, tmp_path / "w")
    config = make_config(
        layers, ("model.image_encoder.init", str(tmp_path / "w")), *([scan] if scanned == "run" else [])
    )
    params, *_ = initialise(fresh(config), config, TOKENS)
    theirs, ours = imported.params["image_encoder"]["blocks"], params["image_encoder"]["blocks"]
    stacked, unrolled = (theirs, ours) if scanned == "source" else (ours, theirs)
    for i in range(2):
        layer = jax.tree.map(lambda leaf, i=i: leaf[i], stacked["layers"])
        jax.tree.map(np.testing.assert_array_equal, layer, unrolled[f"layer_{i}"])


def refused(plain: Any, imported: Imported, folder: Any, *overrides: tuple[str, str]) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    write_imported(imported, folder)
    config = make_config((f"model.{imported.part}.init", str(folder)), *overrides)
    with pytest.raises(UserError) as error:
        initialise(plain, config, TOKENS)
    return str(error.value)


def test_refusals(plain, tmp_path):
    image, text = source(plain, "image_encoder"), source(plain, "text_encoder", TOKENIZER)
    folder = tmp_path / "w"
    wider = dataclasses.replace(image, config={**image.config, "width": 64, "heads": 4})
    said = refused(plain, wider, folder)
    assert "width is 32 here and 64 there, heads is 2 here and 4 there" in said
    assert "set --config.model.image_encoder.width=64 --config.model.image_encoder.heads=4" in said
    del image.params["image_encoder"]["norm"]["bias"]
    image.params["image_encoder"]["nrom"] = {"bias": np.zeros(32, np.float32)}
    said = refused(plain, image, folder)
    assert "image_encoder/norm/bias is not in it" in said and "image_encoder/nrom/bias is in it, but not" in said
    said = refused(plain, dataclasses.replace(text, tokenizer_json=None), folder)
    assert "no tokenizer that tells which token each is for: import it again with --vocabulary" in said
    foreign = '{"model": {"vocab": {"foreign": 0, "words": 1}}}'
    said = refused(plain, dataclasses.replace(text, tokenizer_json=foreign), folder)
    assert "knows 0 of this run's" in said and "--config.data.tokenizer=" in said
    text.params["text_encoder"]["position_embedding"] = np.zeros((16, 32), np.float32)
    said = refused(plain, text, folder)
    assert "has 16 positions: set --config.model.text_encoder.positions=16" in said


def test_what_is_not_there(plain, tmp_path):
    with pytest.raises(UserError, match="does not exist; give a directory that"):
        initialise(plain, make_config(("model.text_encoder.init", str(tmp_path / "no"))), TOKENS)
    write_imported(source(plain, "image_encoder"), tmp_path / "w")
    with pytest.raises(UserError, match="holds image_encoder, but no text_encoder"):
        initialise(plain, make_config(("model.text_encoder.init", str(tmp_path / "w"))), TOKENS)
    with pytest.raises(UserError, match=r"model.image_encoder.init is set, but system vlm has no image_encoder"):
        config = make_config(("model.image_encoder.init", str(tmp_path / "w")))
        initialise({k: v for k, v in plain.items() if k != "image_encoder"}, config, TOKENS)
