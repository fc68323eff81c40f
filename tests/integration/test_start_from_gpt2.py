"""GPT-2's weights through the commands: from Hugging Face's files to the first step of surgical_gpt."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import tokenizers
import torch
import transformers

from vlm_jax.checkpoint.store import restore_for_inference
from vlm_jax.cli import main
from vlm_jax.text.tokenizer import Tokenizer
from vlm_jax.weights.store import read_imported
from vlm_jax.weights.vocabulary import tokens_of

WORDS = ["right view of the nasal vestibule, nasal septum visible 3 o'clock", "the left middle turbinate is pushed"]
WIDTH, LAYERS, HEADS = 16, 1, 2
SETTINGS = {
    "tasks": "anticipate",
    "data.group_by": "procedure",
    "data.image_size": "32",
    "data.vocab_size": "512",
    "data.target_length": "12",
    "model.gpt.width": WIDTH,
    "model.gpt.layers": LAYERS,
    "model.gpt.heads": HEADS,
    "model.gpt.head_width": "8",
    "model.gpt.vision": "vit",
    "model.image_encoder.width": "16",
    "model.image_encoder.layers": "1",
    "model.image_encoder.heads": "2",
    "model.image_encoder.mlp": "32",
    "train.batch_size": "4",
    "train.steps": "1",
    "train.tensorboard": "false",
    "optim.ema": "0",
    "optim.freeze": "^(gpt|question_embedding)",  # what is saved after the step is what it began with
    "eval.every": "0",
    "eval.batch_size": "4",
    "eval.max_units": "4",
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A directory as Hugging Face writes GPT-2: random weights, its own byte-level pieces. Longer than our prompts."""
    path = tmp_path_factory.mktemp("gpt2")
    pieces = tokenizers.ByteLevelBPETokenizer()
    pieces.train_from_iterator(WORDS * 3, vocab_size=400, min_frequency=2, special_tokens=["<|endoftext|>"])
    pieces.save(str(path / "tokenizer.json"))
    torch.manual_seed(0)
    sizes = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 160}
    config = transformers.GPT2Config(vocab_size=pieces.get_vocab_size(), **sizes)
    transformers.GPT2LMHeadModel(config).save_pretrained(path)
    return path, pieces


def test_training_starts_from_the_imported_weights(published, procedures, tmp_path, capsys):
    source, pieces = published
    weights, work = tmp_path / "weights", tmp_path / "run"
    words = ["--layout", "gpt2", "--input", str(source), "--out", str(weights), "--heads", str(HEADS)]
    assert main(["weights", "import", *words]) == 0
    assert f"use --config.model.gpt.init={weights}" in capsys.readouterr().out

    settings = {**SETTINGS, **procedures, "model.gpt.init": weights}
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    spec = "configs/baselines/surgical_gpt.py:tiny"
    assert main(["train", "--config", spec, "--workdir", str(work), *flags]) == 0
    said = capsys.readouterr().err
    assert "gpt starts from" in said and "the first 128 of 160 positions" in said

    theirs = dict(read_imported(weights).params["gpt"])
    restored = restore_for_inference(str(work))
    ours = dict(jax.device_get(restored.params)["gpt"])
    table, rows = theirs.pop("word_embedding"), ours.pop("word_embedding")
    np.testing.assert_array_equal(ours.pop("position_embedding"), theirs.pop("position_embedding")[:128])
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)

    ids = {token: i for i, token in enumerate(tokens_of(Tokenizer.from_json(restored.meta.tokenizer).to_json()))}
    copy = restored.params["question_embedding"]
    # The first word of a text has no space before it, and so in GPT-2 another row; ours is the one behind a space.
    for token, piece in (("nasal", "Ġnasal"), ("septum", "Ġseptum"), (",", ","), ("[EOS]", "<|endoftext|>")):
        for embedding in (rows, copy):
            np.testing.assert_array_equal(embedding[ids[token]], table[pieces.token_to_id(piece)])
    assert not (rows[ids["[PAD]"]] == table).all(axis=1).any(), "GPT-2 has no padding: a row of its own"
