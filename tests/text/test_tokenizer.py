"""Training, special tokens, round trips, and tokenizers that are given."""

from __future__ import annotations

import hashlib
import json
import os
import string
import subprocess
import sys

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers

from vlm_jax.contract import END, TASKS
from vlm_jax.errors import UserError
from vlm_jax.text.normalise import normalise
from vlm_jax.text.tokenizer import SPECIALS, Tokenizer
from vlm_jax.text.wordpiece import train_wordpiece

TEXTS = [
    "Left-sided view of the middle nasal meatus, uncinate process (partially visible) at 3 o'clock.",
    "Opening of the maxillary sinus, 2.5 cm; no polyps? grade 2/4!",
    "The ethmoidal bulla was opened; the left orbital plate is intact.",
    "Déviation of the septum: 10 % to the right.",
]
TOKENIZER = Tokenizer.train(TEXTS, 400)

TRAIN_AND_HASH = """
import hashlib
from vlm_jax.text.tokenizer import Tokenizer
texts = [f"word{i % 37} {chr(97 + i % 26)}{chr(97 + i % 7)}{chr(97 + i % 11)} middle" for i in range(300)]
print(hashlib.sha256(Tokenizer.train(texts, 300).to_json().encode()).hexdigest())
"""


def test_same_texts_give_the_same_tokenizer_in_every_process():
    digests = {
        subprocess.run(
            [sys.executable, "-c", TRAIN_AND_HASH], env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
            capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1
    one = hashlib.sha256(Tokenizer.train(TEXTS, 400).to_json().encode()).hexdigest()
    assert one == hashlib.sha256(Tokenizer.train(reversed(TEXTS), 400).to_json().encode()).hexdigest()


def test_vocabulary_is_bounded_and_holds_frequent_words():
    small, large = Tokenizer.train(TEXTS * 5, 180), Tokenizer.train(TEXTS * 5, 4096)
    assert small.size == 180 < large.size <= 4096
    assert len(large.encode("uncinate process")) == 2


def test_merges_go_by_frequency_and_then_by_alphabet():
    assert [p for p in train_wordpiece({"ab": 5, "cd": 9, "ef": 5}, 1000) if len(p.removeprefix("##")) > 1] == [
        "cd", "ab", "ef",
    ]  # fmt: skip


def test_special_tokens():
    assert TOKENIZER.pad_id == TOKENIZER.id("[PAD]") == 0
    assert [TOKENIZER.id(t) for t in SPECIALS] == list(range(len(SPECIALS)))
    assert len({TOKENIZER.task_id(task) for task in TASKS}) == 4
    with pytest.raises(KeyError):
        TOKENIZER.id("[NOTHING]")


def test_special_tokens_typed_in_a_text_are_text():
    ids = TOKENIZER.encode("[SEP] [END] middle")
    assert not set(ids) & {TOKENIZER.id("[SEP]"), TOKENIZER.id("[END]")}
    again = Tokenizer.from_json(TOKENIZER.to_json())
    assert again.encode("[SEP] [END] middle") == ids


@pytest.mark.parametrize("text", [*TEXTS, "a signature: _______ here", "a ___mm polyp, t1_n0", "中文 ok²"])
def test_round_trip(text: str):
    tokenizer = Tokenizer.train([*TEXTS, text], 500)
    assert normalise(tokenizer.decode(tokenizer.encode(text))) == normalise(text)
    assert Tokenizer.from_json(tokenizer.to_json()).encode(text) == tokenizer.encode(text)


def test_decoded_text_reads_well():
    assert TOKENIZER.decode(TOKENIZER.encode(TEXTS[0])) == TEXTS[0].lower()


@given(st.text(alphabet=string.ascii_letters + string.digits + " .,;:!?()'/-%", max_size=60))
def test_round_trip_of_any_plain_text(text: str):
    assert normalise(TOKENIZER.decode(TOKENIZER.encode(text))) == normalise(text)


def test_decode_stops_at_eos_and_skips_specials_and_padded_ids():
    ids = [TOKENIZER.task_id("report"), *TOKENIZER.encode("left septum"), TOKENIZER.eos_id, *TOKENIZER.encode("view")]
    assert TOKENIZER.decode(ids) == "left septum"
    assert TOKENIZER.decode([*TOKENIZER.encode("left"), TOKENIZER.size + 7]) == "left"
    assert TOKENIZER.decode([TOKENIZER.id("[UNK]")]) == ""


def test_the_end_before_any_word_is_the_end_whatever_follows():
    end, left = TOKENIZER.id("[END]"), TOKENIZER.encode("left")
    assert TOKENIZER.decode([end, TOKENIZER.eos_id]) == END
    assert TOKENIZER.decode([TOKENIZER.task_id("anticipate"), end, *left]) == END
    assert TOKENIZER.decode([*left, end]) == "left"
    assert TOKENIZER.decode([TOKENIZER.eos_id, end]) == ""


def test_a_continuing_piece_at_the_beginning_is_a_word():
    assert TOKENIZER.decode([TOKENIZER.id("##s"), *TOKENIZER.encode("left")]) == "s left"


def given_tokenizer(vocabulary: dict[str, int]) -> str:
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.enable_padding(length=16)
    backend.enable_truncation(4)
    return backend.to_str()


def test_a_given_tokenizer_gets_the_missing_specials_and_lower_case(tmp_path):
    bert = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "left": 5, "view": 6, "##s": 7}
    file = tmp_path / "tokenizer.json"
    file.write_text(given_tokenizer(bert))
    tokenizer = Tokenizer.from_file(file)
    assert tokenizer.id("[CLS]") == 2 and tokenizer.id("[NULL]") == 8
    assert tokenizer.size == 8 + 8
    assert tokenizer.encode("LEFT views left views") == [5, 6, 7, 5, 6, 7]
    assert Tokenizer.from_json(tokenizer.to_json()).task_id("report") == tokenizer.task_id("report")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a tokenizer.json"),
        (given_tokenizer({"[UNK]": 0, "[PAD]": 1}), "[PAD] with id 0, got 1"),
        (given_tokenizer({"[UNK]": 0}), "got None"),
        (tokenizers.Tokenizer(models.BPE()).to_str(), "got BPE"),
        (json.dumps({"model": {}}), "not a tokenizer.json"),
    ],
)
def test_a_wrong_tokenizer_is_answered_in_one_line(text: str, says: str):
    with pytest.raises(UserError, match=says.replace("[", r"\[")) as caught:
        Tokenizer.from_json(text)
    assert "\n" not in str(caught.value)


def test_a_missing_tokenizer_file(tmp_path):
    with pytest.raises(UserError, match="data.tokenizer: cannot read"):
        Tokenizer.from_file(tmp_path / "none.json")
