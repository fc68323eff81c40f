"""GPT-2 against transformers' torch model with the same random weights, and its three ways through the layers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from vlm_jax.config.schema import GptConfig
from vlm_jax.models.baselines.gpt2 import Gpt2, empty_cache

CONFIG = GptConfig(width=24, layers=2, heads=3, positions=32)
VOCABULARY, LENGTH = 40, 9
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def torch_gpt(randomised):
    c = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=CONFIG.width, n_layer=CONFIG.layers, n_head=CONFIG.heads, n_positions=32
    )
    return randomised(transformers.GPT2LMHeadModel(c))


@pytest.fixture(scope="module")
def gpt(torch_gpt, gpt2_tree):
    model = Gpt2(CONFIG, VOCABULARY)
    return model, {"params": gpt2_tree(torch_gpt.transformer.state_dict(), CONFIG)}


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, VOCABULARY, (3, LENGTH))
    mask = np.ones((3, LENGTH), bool)
    mask[1, 6:] = False
    return tokens, mask


def forward(gpt, tokens, mask, types=None):
    model, variables = gpt

    def run(module):
        x = module.place(module.embed(tokens), jnp.arange(tokens.shape[1]), types)
        hidden, memory = module(x, jnp.asarray(mask))
        return hidden, module.token_logits(hidden, module.vocab_size), memory

    return nn_apply(model, variables, run)


def nn_apply(model, variables, fn):
    return jax.jit(lambda variables: model.apply(variables, method=lambda module: fn(module)))(variables)


@pytest.mark.parametrize("typed", [False, True])
def test_hidden_states_and_logits_equal_transformers(gpt, torch_gpt, inputs, typed):
    tokens, mask = inputs
    types = (tokens > 20).astype(np.int64) if typed else None
    with torch.no_grad():
        theirs = torch_gpt(
            input_ids=torch.from_numpy(tokens),
            attention_mask=torch.from_numpy(mask).long(),
            token_type_ids=None if types is None else torch.from_numpy(types),
            output_hidden_states=True,
        )
    hidden, logits, _ = forward(gpt, tokens, mask, types)
    np.testing.assert_allclose(hidden, theirs.hidden_states[-1].numpy(), atol=TOLERANCE, rtol=TOLERANCE)
    np.testing.assert_allclose(logits, theirs.logits.numpy(), atol=TOLERANCE, rtol=TOLERANCE)


def test_a_position_sees_nothing_of_what_follows(gpt, inputs):
    tokens, mask = inputs
    other = tokens.copy()
    other[:, 5:] = (other[:, 5:] + 7) % VOCABULARY
    np.testing.assert_array_equal(forward(gpt, tokens, mask)[0][:, :5], forward(gpt, other, mask)[0][:, :5])


def test_masked_words_are_no_keys(gpt, inputs):
    tokens, mask = inputs
    mask = mask.copy()
    mask[:, 2] = False
    other = tokens.copy()
    other[:, 2] = (other[:, 2] + 7) % VOCABULARY
    np.testing.assert_array_equal(forward(gpt, tokens, mask)[0][:, 3:], forward(gpt, other, mask)[0][:, 3:])


@pytest.mark.parametrize("split", [1, 4])
def test_extending_and_stepping_equal_one_pass(gpt, inputs, split):
    """What follows a prefix, teacher-forced or token by token in two beams, is what one pass over the whole gives."""
    model, variables = gpt
    tokens, _ = inputs
    mask = np.ones(tokens.shape, bool)
    mask[1, split - 1 : split] = split == 1  # a padded word at the end of a longer prefix
    whole = forward(gpt, tokens, mask)[0][:, split:]
    memory = forward(gpt, tokens[:, :split], mask[:, :split])[2]
    prefix = jax.tree.map(lambda x: x[:, None], memory)  # R = 1
    prefix_mask = jnp.asarray(mask[:, None, :split])
    rest = jnp.asarray(tokens[:, None, split:])

    def extend(module):
        x = module.place(module.embed(rest), split + jnp.arange(rest.shape[-1]), None)
        return module.extend(x, prefix, prefix_mask)

    np.testing.assert_allclose(nn_apply(model, variables, extend)[:, 0], whole, atol=1e-5)
    cache = empty_cache(CONFIG, (3, 1, 2, rest.shape[-1]), jnp.float32)

    @jax.jit
    def step(variables, word, cache, t):
        def one(module):
            x = module.place(module.embed(word), split + t, None)
            return module.step(x, prefix, prefix_mask, cache, t)

        return model.apply(variables, method=one)

    for t in range(rest.shape[-1]):
        hidden, cache = step(variables, np.repeat(rest[:, :, None, t], 2, axis=2), cache, t)
        for beam in range(2):
            np.testing.assert_allclose(hidden[:, 0, beam], whole[:, t], atol=1e-5)


def test_dropout_falls_on_attention_weights_too(gpt, inputs):
    tokens, mask = inputs
    model = Gpt2(CONFIG, VOCABULARY, dropout=0.5)
    x = jnp.ones((3, LENGTH, CONFIG.width))

    @jax.jit
    def run(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(gpt[1], x, jnp.asarray(mask), train=True, rngs=rngs)[0]

    first = run(0)
    assert not np.allclose(first, run(1))
    np.testing.assert_array_equal(first, run(0))
    still, plain = (jax.jit(lambda m=m: m.apply(gpt[1], x, jnp.asarray(mask))[0])() for m in (model, gpt[0]))
    np.testing.assert_array_equal(still, plain)
