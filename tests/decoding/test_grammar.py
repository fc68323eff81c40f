"""Generation by grammar: the automaton accepts exactly what the clauses allow, and search stays within it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vlm_jax.decoding.grammar import Grammar, build_grammar, clauses_of
from vlm_jax.decoding.strategies import make_generate
from vlm_jax.text.tokenizer import Tokenizer

NAMES = ("nasal septum", "choana")
TEXTS = (
    "left view of nasal floor, choana visible 3 o'clock, nasal septum partially visible centre lateral to choana",
    "right view of nasal floor, nasal septum visible 9 o'clock",
    "left view of nasal vestibule, no landmark visible",
)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([*TEXTS, "polyps removed"], 200)


@pytest.fixture(scope="module")
def grammar(tokenizer):
    found = build_grammar(clauses_of(TEXTS, NAMES), NAMES, tokenizer)
    assert found is not None
    return found


def accepts(grammar: Grammar, tokens: list[int], eos: int, task="describe") -> bool:
    state = grammar.start[task]
    for token in [*tokens, eos]:
        state = int(grammar.table[state, token])
        if state < 0:
            return False
    return True


def test_clauses_have_slots():
    clauses = clauses_of(TEXTS, NAMES)
    assert "^left view of nasal floor" in clauses and "{} visible # o'clock" in clauses
    assert "{} partially visible centre lateral to {}" in clauses and "#9" in clauses
    assert clauses_of(["[START]", "[END]"], NAMES) == ()


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        *((text, True) for text in TEXTS),
        (
            "right view of nasal floor, choana visible 9 o'clock, choana partially visible centre lateral to choana",
            True,
        ),
        ("right view of nasal vestibule, nasal septum visible 3 o'clock", False),
        ("left view of nasal floor, choana visible 4 o'clock", False),
        ("choana visible 3 o'clock", False),
        ("left view of nasal floor, choana visible", False),
        ("left view of nasal floor,", False),
        ("polyps removed", False),
        ("", False),
    ],
)
def test_what_is_allowed(grammar, tokenizer, text, allowed):
    for task in ("describe", "anticipate"):
        assert accepts(grammar, tokenizer.encode(text), tokenizer.eos_id, task) == allowed


def test_every_clause_by_brute_force(grammar, tokenizer):
    """All fillings of all clauses, after every first clause; and nothing of them with a word exchanged or left out."""
    clauses = clauses_of(TEXTS, NAMES)
    fill = {"{}": NAMES, "#": ("3", "9")}
    language = set()
    for first, more in itertools.product(*([c for c in clauses if (c[0] == "^") == k] for k in (True, False))):
        if more.startswith("#"):
            continue
        parts = [fill.get(p, (p,)) for p in f"{first[1:]}, {more}".replace("{}", "|{}|").replace("#", "|#|").split("|")]
        language |= {"".join(choice) for choice in itertools.product(*parts)}
    assert len(language) == 3 * (1 + 2 * 2 + 4)
    assert all(accepts(grammar, tokenizer.encode(text), tokenizer.eos_id) for text in language)
    known = {tuple(tokenizer.encode(text)) for text in language}
    rng = np.random.default_rng(0)
    for text in sorted(language):
        tokens = tokenizer.encode(text)
        tokens[int(rng.integers(len(tokens)))] = int(rng.integers(20, tokenizer.size))
        assert accepts(grammar, tokens, tokenizer.eos_id) == (tuple(tokens) in known)


def test_the_end_of_a_procedure_is_for_anticipate_alone(grammar, tokenizer):
    end = [tokenizer.id("[END]")]
    assert accepts(grammar, end, tokenizer.eos_id, "anticipate") and not accepts(grammar, end, tokenizer.eos_id)


def test_without_descriptions_there_is_no_grammar(tokenizer):
    assert build_grammar((), NAMES, tokenizer) is None


# --- Search --- (`toy` of conftest: a random recurrent decoder with 1 = eos)

AUTOMATON = np.full((5, 7), -1, np.int32)
AUTOMATON[0] = 0
AUTOMATON[1, [2, 3]] = 2, 3
AUTOMATON[2, [4, 5]] = 3, 2
AUTOMATON[3, [6, 1]] = 2, 4


def best_by_brute_force(toy, b: int, length: int) -> list[int]:
    """The tokens of the highest summed log-probability among all that the automaton allows, [EOS] included."""
    finished, live = [], [([toy.task_ids["describe"]], 1, 0.0)]
    for _ in range(length - 1):
        following = []
        for tokens, state, total in live:
            allowed = AUTOMATON[state] >= 0
            log_probs = toy.log_probs(b, 0, tokens, None)[-1]
            log_probs = log_probs - np.log(np.exp(log_probs[allowed]).sum())
            for token in np.flatnonzero(allowed):
                one = ([*tokens, int(token)], int(AUTOMATON[state, token]), total + log_probs[token])
                (finished if token == toy.eos_id else following).append(one)
        live = following
    return max([*finished, *live], key=lambda one: one[2])[0]


@pytest.mark.parametrize("strategy", ["greedy", "beam"])
def test_search_stays_within_and_beam_finds_the_best(toys, strategy):
    toy = toys(vocabulary=7)
    options = {"length": 6, "eos_id": 1, "task_ids": toy.task_ids, "beam": 32, "length_penalty": 0.0}
    within = make_generate(toy.model, strategy, **options, grammar=Grammar(AUTOMATON, {"describe": 1}))
    tokens = np.asarray(within(*toy.inputs).tokens)
    free = np.asarray(make_generate(toy.model, strategy, **options)(*toy.inputs).tokens)
    assert np.array_equal(tokens[:, 1], free[:, 1])  # report has no grammar
    assert not np.array_equal(tokens[:, 0], free[:, 0])
    for b, row in enumerate(tokens[:, 0].tolist()):
        written = row[: row.index(1, 1) + 1] if 1 in row[1:] else row
        state = 1
        for token in written[1:]:
            state = int(AUTOMATON[state, token])
            assert state >= 0
        if strategy == "beam":
            assert written == best_by_brute_force(toy, b, 6)
