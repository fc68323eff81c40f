"""Prompt and target arrays."""

from __future__ import annotations

import numpy as np
import pytest

from vlm_jax.contract import END, START
from vlm_jax.errors import UserError
from vlm_jax.text.prompts import encode_prompt, encode_target
from vlm_jax.text.tokenizer import Tokenizer

WORDS = "alpha beta gamma delta epsilon zeta"
TOKENIZER = Tokenizer.train([WORDS] * 9, 400)


def tokens(*names: str) -> list[int]:
    return [i for name in names for i in ([TOKENIZER.id(name)] if name.startswith("[") else TOKENIZER.encode(name))]


def test_prompt_of_two_segments():
    row = encode_prompt(TOKENIZER, ("alpha", "beta gamma"), 10)
    assert row.dtype == np.int32 and row.shape == (10,)
    assert row.tolist() == tokens("[CLS]", "alpha", "[SEP]", "beta gamma", "[SEP]") + [0] * 4


def test_absent_start_and_empty_are_three_things():
    rows = [encode_prompt(TOKENIZER, (segment,), 6).tolist() for segment in (None, START, "", END)]
    assert rows[0][:3] == tokens("[CLS]", "[NULL]", "[SEP]")
    assert rows[1][:3] == tokens("[CLS]", "[START]", "[SEP]")
    assert rows[2][:2] == tokens("[CLS]", "[SEP]")
    assert len({tuple(r) for r in rows}) == 4


def test_a_long_prompt_keeps_specials_and_the_most_recent_words():
    row = encode_prompt(TOKENIZER, ("alpha", WORDS), 7).tolist()
    assert row == tokens("[CLS]", "alpha", "[SEP]", "delta epsilon zeta", "[SEP]")
    both = encode_prompt(TOKENIZER, (WORDS, WORDS), 8).tolist()
    assert both.count(TOKENIZER.id("[SEP]")) == 2 and 0 not in both and len(both) == 8


def test_target():
    row = encode_target(TOKENIZER, "describe", "alpha beta", 6)
    assert row.dtype == np.int32
    assert row.tolist() == tokens("[DESCRIBE]", "alpha beta", "[EOS]") + [0, 0]
    assert encode_target(TOKENIZER, "report", WORDS, 4).tolist() == tokens("[REPORT]", "alpha beta", "[EOS]")
    assert encode_target(TOKENIZER, "anticipate", END, 4).tolist() == [*tokens("[ANTICIPATE]", "[END]", "[EOS]"), 0]
    assert not encode_target(TOKENIZER, "report", None, 4).any()
    assert TOKENIZER.decode(encode_target(TOKENIZER, "anticipate", END, 4).tolist()) == END


def test_lengths_that_hold_nothing_are_refused():
    with pytest.raises(UserError, match="data.prompt_length=4 is too short"):
        encode_prompt(TOKENIZER, ("alpha", "beta"), 4)
    with pytest.raises(UserError, match="data.target_length=2"):
        encode_target(TOKENIZER, "report", "alpha", 2)
