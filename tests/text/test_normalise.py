"""One normal form for comparisons, and the mirror of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_jax.text.normalise import mirror, normalise, words

FRAGMENTS = st.sampled_from(
    ["left", "right", "Left", "RIGHT", "leftward", "rightmost", "3 o'clock", "12 o'clock", "6 o’clock", "Seven o'clock",
     "2 to 4 o'clock", "10-11 o'clock", "3:30 o'clock", "septum", "grade 2", "clockwise", "counterclockwise", "middle",
     "right-angled forceps", "left_side", "bright", "cleft", "3 o clock"]
)  # fmt: skip


def test_words_are_lower_case_words_and_single_marks():
    assert words("At 3 o'clock, Left-sided.") == ["at", "3", "o", "'", "clock", ",", "left", "-", "sided", "."]
    assert normalise("  A  b,c ") == "a b , c"


def test_an_underscore_is_a_mark():
    assert words("a ___mm t1_n0") == ["a", "_", "_", "_", "mm", "t1", "_", "n0"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("left middle concha", "right middle concha"),
        ("Right view, LEFT wall", "Left view, RIGHT wall"),
        ("leftwards, rightmost", "rightwards, leftmost"),
        ("3 o'clock", "9 o'clock"),
        ("at 12 o'clock and 6 o'clock", "at 12 o'clock and 6 o'clock"),
        ("1 o'clock, 11 o’clock", "11 o'clock, 1 o’clock"),
        ("3 o ' clock", "9 o ' clock"),
        ("2 to 4 o'clock", "10 to 8 o'clock"),
        ("3, 6 and 9 o'clock", "9, 6 and 3 o'clock"),
        ("from 1, 2, or 4 o'clock", "from 11, 10, or 8 o'clock"),
        ("from 3 through 5 o'clock, 2/4 o'clock", "from 9 through 7 o'clock, 10/8 o'clock"),
        ("3 & 8 o'clock", "9 & 4 o'clock"),
        ("grade 2, 3 o'clock", "grade 2, 9 o'clock"),
        ("3:30 o'clock", "8:30 o'clock"),
        ("12:15 o'clock", "11:45 o'clock"),
        ("Three o'clock", "Nine o'clock"),
        ("03 o'clock", "9 o'clock"),
        ("turned clockwise", "turned counterclockwise"),
        ("right-angled forceps, right angle", "right-angled forceps, right angle"),
        ("bright cleft 13 o'clock", "bright cleft 13 o'clock"),
        ("left_fold", "right_fold"),
        ("[START]", "[START]"),
        ("3 mm at the left", "3 mm at the right"),
    ],
)
def test_mirror(text: str, expected: str):
    assert mirror(text) == expected


@given(st.lists(FRAGMENTS, max_size=8).map(", ".join))
def test_mirror_twice_is_the_text_itself(text: str):
    assert mirror(mirror(text)) == text


@given(st.text(max_size=40))
def test_mirror_keeps_texts_without_a_side(text: str):
    lowered = text.lower()
    if not any(word in lowered for word in ("left", "right", "clock")):
        assert mirror(text) == text


@given(st.text(max_size=60))
def test_normalise_is_idempotent(text: str):
    assert normalise(normalise(text)) == normalise(text)
