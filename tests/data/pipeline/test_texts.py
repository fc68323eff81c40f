"""Texts that do not fit are said, once, with the number to set."""

from __future__ import annotations

from vlm_jax.config.schema import DataConfig
from vlm_jax.data.texts import cut_texts
from vlm_jax.text.tokenizer import Tokenizer

TEXTS = ["short", "a b c d e f g h i j"]


def test_texts_that_are_cut_are_counted():
    tokenizer = Tokenizer.train(TEXTS, 100)
    assert cut_texts(tokenizer, TEXTS, DataConfig(target_length=12)) == []
    (line,) = cut_texts(tokenizer, TEXTS, DataConfig(target_length=11))
    assert line == "1 of 2 training texts are cut at data.target_length=11; the longest needs 12"
