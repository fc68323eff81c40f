"""What the masked language model hides: how much, of what, and that the step's key decides."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.config.schema import LossConfig
from vlm_jax.contract import Batch
from vlm_jax.tasks import LossContext, hide
from vlm_jax.tasks.mask_language import hide_tokens

MASK, SPECIAL = 4, (0, 1, 2, 3, 4, 9)
CONTEXT = LossContext(LossConfig(), (), n_tokens=60, mask_token=MASK, special_tokens=SPECIAL)


def texts(rows: int = 400, length: int = 40) -> np.ndarray:
    """[CLS] words [SEP], zero-padded; of every length from 3 on."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(10, 60, (rows, length), dtype=np.int32)
    tokens[:, 0] = 2
    for row, end in enumerate(rng.integers(2, length, rows)):
        tokens[row, end], tokens[row, end + 1 :] = 3, 0
    return tokens


def test_fifteen_percent_of_words_eighty_ten_ten():
    tokens = texts()
    shown, wanted = jax.jit(lambda key: hide_tokens(key, tokens, CONTEXT))(jax.random.key(0))
    shown, wanted = np.asarray(shown), np.asarray(wanted)
    hidden = wanted != 0
    lengths = (tokens != 0).sum(axis=1)
    np.testing.assert_array_equal(hidden.sum(axis=1), np.maximum((lengths * 15 + 50) // 100, 1))
    assert not np.isin(tokens[hidden], SPECIAL).any(), "special tokens and padding are never hidden"
    np.testing.assert_array_equal(wanted[hidden], tokens[hidden])
    np.testing.assert_array_equal(shown[~hidden], tokens[~hidden])
    as_mask = (shown[hidden] == MASK).mean()
    changed = (shown[hidden] != tokens[hidden]).mean() - as_mask
    assert abs(as_mask - 0.8) < 0.04 and abs(changed - 0.1) < 0.03
    assert not np.isin(shown[hidden & (shown != MASK)], SPECIAL).any()


def test_a_text_without_words_hides_nothing():
    tokens = np.array([[2, 9, 3, 0], [2, 3, 0, 0]], np.int32)
    shown, wanted = jax.jit(lambda key: hide_tokens(key, jnp.asarray(tokens), CONTEXT))(jax.random.key(0))
    np.testing.assert_array_equal(shown, tokens)
    assert not np.any(wanted)


def test_the_key_decides_and_other_tasks_see_the_batch_as_it_is():
    def batch() -> Batch:
        prompt = np.zeros((8, 4, 40), np.int32)
        prompt[:, 0] = texts(8)
        empty = np.zeros((8, 4), np.int32)
        return Batch(empty, empty, empty, empty, prompt, empty, np.ones((8, 4), bool), np.ones(8, bool), empty)

    hidden = jax.jit(lambda key: hide(key, batch(), ("mask_language",), CONTEXT))
    first, again, other = (hidden(jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first.prompt, again.prompt)
    assert not np.array_equal(first.prompt, other.prompt)
    assert first.target.shape == first.prompt.shape
    untouched = batch()
    assert hide(jax.random.key(0), untouched, ("describe", "reconstruct"), CONTEXT) is untouched
