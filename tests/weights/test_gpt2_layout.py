"""GPT-2's mapping table against transformers, with the names that checkpoints come with, and what it refuses.

`benchmarks/parity.py` runs the test of parity and writes down the figures that it records.
"""

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

TOLERANCE = 1e-4
NARROW, PUBLISHED = (24, 2, 3, 16, 30), (768, 12, 12, 1024, 50257)
"""(width, layers, heads, positions, vocabulary)."""


def make_gpt(size):
    """A language model with weights away from their start, such that hidden states stay of order one."""
    width, layers, heads, positions, vocabulary = size
    sizes = {"n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": positions}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=vocabulary, **sizes)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.2 if parameter.ndim == 1 else min(0.2, 2.0 * parameter.shape[-1] ** -0.5)
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return model


@pytest.fixture(scope="module")
def torch_gpt():
    return make_gpt(NARROW)


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
def test_names_that_checkpoints_come_with(torch_gpt, prefix):
    """The same parameters with and without the language model's prefix, and the reason of everything left out."""
    imported = import_weights("gpt2", arrays_of(torch_gpt, prefix), heads=3)
    assert (imported.part, imported.config["layers"], imported.config["vocab_size"]) == ("gpt", 2, NARROW[-1])
    reasons = dict(imported.dropped)
    start = "transformer." if prefix else ""
    assert "buffers" in reasons[f"{start}h.1.attn.masked_bias"] and "buffers" in reasons[f"{start}h.0.attn.bias"]
    assert not prefix or "tied" in reasons["lm_head.weight"]
    plain = import_weights("gpt2", arrays_of(torch_gpt, not prefix, buffers=False), heads=3)
    jax.tree.map(np.testing.assert_array_equal, imported.params, plain.params)


@pytest.mark.parametrize("size", [NARROW, pytest.param(PUBLISHED, marks=pytest.mark.slow)], ids=["narrow", "published"])
def test_parity_with_transformers(size, record_property):
    width, layers, heads, positions, vocabulary = size
    oracle = make_gpt(size)
    arrays = {name: value.numpy() for name, value in oracle.state_dict().items()}
    imported = import_weights("gpt2", arrays, heads=heads if size == NARROW else None, layers=layers)
    tokens = np.random.default_rng(0).integers(0, vocabulary, (2, 9))
    model = Gpt2(GptConfig(width=width, layers=layers, heads=heads, positions=positions), vocabulary)

    def run(module):
        hidden, _ = module(module.place(module.embed(tokens), jnp.arange(9), None), jnp.ones((2, 9), bool))
        return hidden, module.token_logits(hidden, vocabulary)

    ours = jax.jit(lambda params: model.apply({"params": params}, method=run))(imported.params["gpt"])
    with torch.no_grad():
        theirs = oracle(input_ids=torch.from_numpy(tokens), output_hidden_states=True)
    expected = [theirs.hidden_states[-1].numpy(), theirs.logits.numpy()]
    assert all(value.std() > 0.1 for value in expected), "the oracle's output must say something"
    difference = max(float(np.abs(mine - other).max()) for mine, other in zip(ours, expected, strict=True))
    row = {"layout": "gpt2", "oracle": "transformers", "size": size, "output": "final hidden states and logits"}
    row |= {"max_abs_difference": difference, "max_abs": max(float(np.abs(other).max()) for other in expected)}
    record_property("parity", json.dumps(row))
    assert difference < TOLERANCE


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
