"""The trivial systems on hand-made training units."""

from __future__ import annotations

import numpy as np

from vlm_jax.contract import END, START, Record
from vlm_jax.evaluation.trivial import most_frequent, trivial_labels, trivial_texts
from vlm_jax.evaluation.units import END_WORD


def _activity(previous, now, following=None):
    return Record("u", "s", "p", "g", previous=previous, description=now, next_description=following)


def _sentence(keyword, context, text):
    return Record("u", "s", "p", "g", keyword=keyword, context=context, report_sentence=text)


def test_labels():
    answers = trivial_labels(np.array([3, 0, 0]), np.array([1, 5, 0]), 2)
    np.testing.assert_array_equal(answers["all_positive"], np.ones((2, 3)))
    np.testing.assert_array_equal(answers["prior"], [[0.75, 0, 0]] * 2)


def test_most_frequent_counts_words_and_breaks_ties_by_the_alphabet():
    assert most_frequent(["b", "a", "A .", "a."]) == "A ."
    assert most_frequent(["b", "a"]) == most_frequent(["a", "b"]) == "a"


def test_markov_follows_the_previous_description_and_falls_back():
    training = [
        _activity(START, "x"),
        _activity("x", "y"),
        _activity("x", "y"),
        _activity("x", "z"),
        _activity("y", "x"),
    ]
    answers = trivial_texts("describe", training)
    queries = [_activity("X", "?"), _activity(START, "?"), _activity("unseen", "?"), _activity(None, "?")]
    assert answers["markov"](queries) == ["y", "x", "x", "x"]
    assert answers["most_frequent"](queries) == ["x"] * 4
    assert set(answers) == {"most_frequent", "markov"}


def test_anticipate_follows_the_current_description_to_the_end():
    training = [_activity(START, "x", "y"), _activity("x", "y", END)]
    answers = trivial_texts("anticipate", training)
    queries = [_activity(None, "y"), _activity(None, "x")]
    assert answers["markov"](queries) == [END_WORD, "y"]
    assert answers["end"](queries) == [END_WORD] * 2 and set(answers) == {"most_frequent", "markov", "end"}


def test_a_constant_answer_is_a_text_even_where_the_end_is_commoner():
    training = [_activity("a", "x", END), _activity("b", "y", END), _activity("c", "z", "w")]
    assert trivial_texts("anticipate", training)["most_frequent"]([training[0]]) == ["w"]
    assert trivial_texts("anticipate", training[:2])["most_frequent"]([training[0]]) == [END_WORD]


def test_report_knows_the_keyword_but_not_the_target():
    training = [
        _sentence("open_nose", START, "we begin"),
        _sentence("cut", "we begin", "cut the left"),
        _sentence("cut", "we begin", "cut the left"),
        _sentence("cut", "a polyp was found", "cut the polyp"),
        _sentence("close", "done", "bye"),
    ]
    answers = trivial_texts("report", training)
    queries = [
        _sentence("cut", "polyp found", "SECRET"),
        _sentence("new_key", "done", "SECRET"),
        _sentence(None, None, "S"),
    ]
    assert answers["keyword"](queries) == ["cut", "new key", ""]
    assert answers["keyword_mode"](queries) == ["cut the left"] * 3
    # The third shares no word with any of them, nor a keyword: the commonest sentence, not the first.
    assert answers["nearest"](queries) == ["cut the polyp", "bye", "cut the left"]
    assert answers["markov"]([_sentence("x", "We begin", "S")]) == ["cut the left"]


def test_targets_of_the_queries_change_nothing():
    training = [_sentence("a", START, "one"), _sentence("b", "one", "two")]
    for answer in trivial_texts("report", training).values():
        queries = [_sentence("b", "one", text) for text in ("two", "quite another")]
        assert answer(queries[:1]) == answer(queries[1:])


def test_nothing_to_fit_on_no_answers():
    assert trivial_texts("report", []) == {}
