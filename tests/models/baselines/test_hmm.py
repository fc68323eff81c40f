"""Baum-Welch against sums over every path, and the fitted tables as a language model over listed sentences."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from vlm_jax.config import schema
from vlm_jax.contract import END, START, Record
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params
from vlm_jax.models.baselines.baum_welch import (
    Observed,
    Parameters,
    assign,
    expect,
    fit,
    forward_backward,
    log_emissions,
)
from vlm_jax.training.fit_hmm import sequences_of

N, V, D = 3, 5, 4


def random_parameters(rng) -> Parameters:
    return Parameters(rng.dirichlet(np.ones(N)), rng.dirichlet(np.ones(N), N), rng.dirichlet(np.ones(V), N))


def every_path(log_emission: np.ndarray, p: Parameters):
    """Posteriors, expected steps and likelihood by the sum over all N ** L paths."""
    length = len(log_emission)
    states, steps, total = np.zeros((length, N)), np.zeros((N, N)), 0.0
    for path in itertools.product(range(N), repeat=length):
        weight = p.start[path[0]] * np.exp(sum(log_emission[t, z] for t, z in enumerate(path)))
        weight *= np.prod([p.transition[a, b] for a, b in itertools.pairwise(path)])
        total += weight
        for t, z in enumerate(path):
            states[t, z] += weight
        for a, b in itertools.pairwise(path):
            steps[a, b] += weight
    return states / total, steps / total, np.log(total)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_forward_backward_equals_the_sum_over_every_path(length):
    rng = np.random.default_rng(length)
    p = random_parameters(rng)
    log_emission = np.log(rng.uniform(1e-3, 1, (length, N)))
    for found, expected in zip(forward_backward(log_emission, p), every_path(log_emission, p), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_long_sequences_neither_underflow_nor_overflow():
    rng = np.random.default_rng(0)
    states, _, log_likelihood = forward_backward(rng.uniform(-900, -800, (300, N)), random_parameters(rng))
    assert np.isfinite(log_likelihood)
    np.testing.assert_allclose(states.sum(axis=1), 1.0)


def observed(rng) -> Observed:
    words = rng.integers(0, 3, (D, V)).astype(np.float64)
    words[:, 0] = 0  # a word that never occurs
    return Observed(words, tuple(rng.integers(0, D, length) for length in (6, 1, 4)))


def test_a_sentence_emits_its_words_as_a_bag():
    rng = np.random.default_rng(1)
    seen, p = observed(rng), random_parameters(rng)
    by_hand = [[sum(n * np.log(p.emission[z, v]) for v, n in enumerate(row)) for z in range(N)] for row in seen.words]
    np.testing.assert_allclose(log_emissions(seen.words, p.emission), by_hand)
    found = expect(seen, p)
    parts = [every_path(np.array(by_hand)[s], p) for s in seen.sequences]
    np.testing.assert_allclose(found.transition, sum(steps for _, steps, _ in parts), atol=1e-10)
    np.testing.assert_allclose(found.log_likelihood, sum(total for *_, total in parts))


def test_the_objective_never_falls_and_rows_are_probabilities():
    rng = np.random.default_rng(2)
    seen = observed(rng)
    found = fit(seen, rng.integers(0, N, D), N, smoothing=0.1, iterations=30, tolerance=0.0)
    gains = np.diff(found.objective)
    assert gains.min() > -1e-9
    assert found.objective[-1] > found.objective[0] + 0.1
    for rows in (found.parameters.start, found.parameters.transition, found.parameters.emission):
        np.testing.assert_allclose(rows.sum(axis=-1), 1.0)
    assert (found.parameters.emission[:, 0] == 0).all()  # what was never said


def test_like_sentences_share_a_state_where_states_are_few():
    words = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]], np.float64)
    groups = assign(words, [3, 1, 1, 1], 2)
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert assign(words, [1] * 4, 9).tolist() == [0, 1, 2, 3]


def record(previous, description, following) -> Record:
    return Record("u", "s", "p", "g", previous=previous, description=description, next_description=following)


def test_a_gap_ends_a_sequence_but_its_neighbours_are_known():
    whole = [record(START, "a", "b"), record("a", "b", "c"), record("d", "e", END)]
    assert sequences_of(whole) == [[START, "a", "b", "c"], ["d", "e", END]]
    assert sequences_of([record(None, "a", None)]) == [["a"]]
    assert sequences_of([]) == []


# --- The system ------------------------------------------------------------------------------------------------------

EOS, WORDS = 9, 12
SENTENCES = np.array([[5, 6, EOS, 0], [5, 7, EOS, 0], [8, EOS, 0, 0]], np.int32)


def small(tasks=("describe", "anticipate")) -> schema.Config:
    return schema.Config(
        system="hmm",
        tasks=tasks,
        data=schema.DataConfig(image_size=16, prompt_length=4, target_length=5),
        model=schema.ModelConfig(hmm=schema.HmmConfig(states=3, sentences=3)),
    )


@pytest.fixture(scope="module")
def system():
    """Three states that each emit one word (1, 2, 3) and answer one sentence; they follow one another."""
    rng = np.random.default_rng(3)
    model = build_model(small(), 0, WORDS)
    transition, answer = rng.dirichlet(np.ones(3), 3), rng.dirichlet(np.ones(3), 3)
    prior, emission = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), 3)
    table = np.zeros((WORDS, 3), np.float32)
    table[1:4] = np.log(emission.T)
    params = {
        "hmm_prior": np.log(prior),
        "hmm_transition": np.log(transition),
        "hmm_emission": table,
        "hmm_answer": np.log(answer),
        "hmm_sentences": SENTENCES,
    }
    now = prior * emission[:, 0] * emission[:, 2]  # the prompt says words 1 and 3
    expected = (now / now.sum()) @ transition @ answer
    return model, jax.tree.map(np.asarray, params), expected


def inputs():
    prompt = np.zeros((1, 4, 4), np.int32)
    prompt[:, :, :2] = (1, 3)
    return np.zeros((1, 1, 16, 16, 3), np.uint8), np.zeros((1, 1), bool), prompt


def test_the_next_sentence_is_weighed_by_bayes_rule(system):
    model, params, expected = system
    memory = model.apply({"params": params}, *inputs(), method="encode")
    np.testing.assert_allclose(np.exp(memory.answers[0, 0]), expected, atol=1e-6)
    assert jax.tree.map(np.shape, params) == jax.tree.map(
        np.shape, jax.eval_shape(lambda: init_params(model, small(), jax.random.key(0)))
    )


def test_words_are_said_with_the_probability_of_the_sentences_that_go_on_so(system):
    model, params, expected = system
    variables = {"params": params}
    target = np.zeros((1, 4, 5), np.int32)
    target[:, :, :4] = (10, 5, 7, EOS)
    logits = np.asarray(model.apply(variables, *inputs(), target).token_logits)[0, 0]
    said = np.exp(logits)
    np.testing.assert_allclose(said[0, [5, 8]], [expected[0] + expected[1], expected[2]], atol=1e-4)
    np.testing.assert_allclose(said[1, [6, 7]], expected[:2] / expected[:2].sum(), atol=1e-4)
    np.testing.assert_allclose(said[2, EOS], 1.0, atol=1e-4)
    unlisted = target.copy()
    unlisted[:, :, 1] = 11
    assert np.isfinite(np.asarray(model.apply(variables, *inputs(), unlisted).token_logits)).all()


def test_what_it_has_not_is_refused():
    with pytest.raises(UserError, match="asks hmm for report, but it has describe, anticipate only"):
        build_model(small(("report",)), 0, WORDS)
    blind = dataclasses.replace(small(), model=schema.ModelConfig(no_text=True))
    with pytest.raises(UserError, match=r"no_text leaves hmm nothing"):
        build_model(blind, 0, WORDS)
