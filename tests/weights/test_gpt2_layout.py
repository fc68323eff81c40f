"""GPT-2's mapping table against transformers, with the names that checkpoints come with, and what it refuses."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from vlm_jax.config.schema import GptConfig
from vlm_jax.errors import UserError
from vlm_jax.models.baselines.gpt2 import Gpt2
from vlm_jax.weights.importer import import_weights
from vlm_jax.weights.vocabulary import spellings

SIZES = GptConfig(width=24, layers=2, heads=3, positions=16)
VOCABULARY = 30


@pytest.fixture(scope="module")
def torch_gpt():
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=24, n_layer=2, n_head=3, n_positions=16)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model


def arrays_of(model, prefix=True, buffers=True):
    """The state as older checkpoints have it: with the causal mask as a buffer, under `transformer.` or without."""
    arrays = {k: v.numpy() for k, v in model.state_dict().items()}
    if not prefix:
        arrays = {k.removeprefix("transformer."): v for k, v in arrays.items() if k != "lm_head.weight"}
    if buffers:
        start = "transformer." if prefix else ""
        for layer in range(2):
            arrays[f"{start}h.{layer}.attn.bias"] = np.tril(np.ones((1, 1, 16, 16), np.uint8))
            arrays[f"{start}h.{layer}.attn.masked_bias"] = np.float32(-1e4)
    return arrays


@pytest.mark.parametrize("prefix", [True, False])
def test_logits_equal_transformers(torch_gpt, prefix, record_property):
    imported = import_weights("gpt2", arrays_of(torch_gpt, prefix), heads=3)
    assert (imported.part, imported.config["layers"], imported.config["vocab_size"]) == ("gpt", 2, VOCABULARY)
    reasons = dict(imported.dropped)
    start = "transformer." if prefix else ""
    assert "buffers" in reasons[f"{start}h.1.attn.masked_bias"] and "buffers" in reasons[f"{start}h.0.attn.bias"]
    assert not prefix or "tied" in reasons["lm_head.weight"]
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (2, 9))
    model = Gpt2(SIZES, VOCABULARY)

    def run(module):
        hidden, _ = module(module.place(module.embed(tokens), jnp.arange(9), None), jnp.ones((2, 9), bool))
        return hidden, module.token_logits(hidden)

    ours = jax.jit(lambda params: model.apply({"params": params}, method=run))(imported.params["gpt"])
    with torch.no_grad():
        theirs = torch_gpt(input_ids=torch.from_numpy(tokens), output_hidden_states=True)
    for mine, other in zip(ours, (theirs.hidden_states[-1], theirs.logits), strict=True):
        difference = float(np.abs(mine - other.numpy()).max())
        record_property("difference", difference)
        assert difference < 1e-4


@pytest.mark.parametrize("damage", ["misspelt", "missing", "transposed"])
def test_damage_is_refused_by_name(torch_gpt, damage):
    arrays, key = arrays_of(torch_gpt), "transformer.h.1.mlp.c_fc.weight"
    value = arrays.pop(key)
    if damage == "misspelt":
        arrays["transformer.h.1.mlp.c_fcc.weight"] = value
    elif damage == "transposed":
        arrays[key] = value.T
    with pytest.raises(UserError, match=r"h\.1\.mlp\.c_fc") as caught:
        import_weights("gpt2", arrays, heads=3)
    assert damage != "misspelt" or "c_fcc" in str(caught.value)


def test_byte_level_pieces_are_spelt_as_word_pieces():
    pieces = ["Ġnose", "nose", ",", "Ġ,", "Ġ", "ĠÃ¶dem", "Ã", "<|endoftext|>", "3"]
    tokenizer = {
        "model": {"type": "BPE", "vocab": {piece: i for i, piece in enumerate(pieces)}},
        "pre_tokenizer": {"type": "ByteLevel"},
        "added_tokens": [{"id": 7, "content": "<|endoftext|>"}],
    }
    spelt = ("nose", "##nose", ",", ",", "", "ödem", "", "[EOS]", "##3")
    assert spellings(json.dumps(tokenizer)) == spelt
    assert spellings(json.dumps({**tokenizer, "pre_tokenizer": {"type": "BertPreTokenizer"}})) == tuple(pieces)
