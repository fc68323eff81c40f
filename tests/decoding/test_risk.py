from __future__ import annotations

import functools
import itertools

import jax
import numpy as np
import pytest
from rouge_score import rouge_scorer

from vlm_jax.decoding import risk
from vlm_jax.decoding.strategies import make_generate

LENGTH = 7
SAMPLES = 9


@functools.cache
def searching(model, eos_id, task_ids, options):
    """One search for all toys of a model: their parameters are its argument."""
    return make_generate(model, "mbr", length=LENGTH, eos_id=eos_id, task_ids=dict(task_ids), **dict(options))


def generate(toy, **kwargs):
    fn = searching(toy.model, toy.eos_id, tuple(toy.task_ids.items()), tuple(sorted(kwargs.items())))
    return jax.tree.map(np.asarray, fn(*toy.inputs))


def library(texts):
    """rouge_score's F1 of each text with each."""
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    return np.array([[scorer.score(a, b)["rougeL"].fmeasure for b in texts] for a in texts])


def spelled(tokens, counted):
    return " ".join(f"w{t}" for t, here in zip(tokens, counted, strict=True) if here)


def test_every_pair_scores_as_rouge_score_has_it():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 5, (3, 8, 11)).astype(np.int32)
    counted = np.arange(11) < rng.integers(0, 12, (3, 8, 1))
    counted[0, 0] = False
    counted[1, 1] &= rng.random(11) < 0.5  # what does not count may lie inside a text
    tokens[2, 3], counted[2, 3] = tokens[2, 4], counted[2, 4]
    found = np.asarray(risk.rouge_l(tokens, counted))
    for of, row, mask in zip(found, tokens, counted, strict=True):
        texts = [spelled(t, m) for t, m in zip(row, mask, strict=True)]
        np.testing.assert_allclose(of, library(texts), atol=1e-6)


def samples_oracle(toy, b, r, temperature):
    """The samples of one row in numpy: argmax of tempered log-probabilities and the search's own noise, no cache."""
    noise, key = [], jax.random.key(0)
    for _ in range(LENGTH - 1):
        key, use = jax.random.split(key)
        noise.append(np.asarray(jax.random.gumbel(use, (SAMPLES, toy.params["out"].shape[1]))))
    out = []
    for w in range(SAMPLES):
        tokens, gained = [toy.task_ids[toy.model.text_tasks[r]]], []
        while len(tokens) < LENGTH and toy.eos_id not in tokens[1:]:
            last = toy.log_probs(b, r, tokens)[-1]
            tokens.append(int(np.argmax(last / temperature + noise[len(tokens) - 1][w])))
            gained.append(last[tokens[-1]])
        out.append((tokens + [0] * (LENGTH - len(tokens)), float(np.mean(gained))))
    return out


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_answer_is_the_sample_of_least_risk(toy, temperature):
    found = generate(toy, samples=SAMPLES, temperature=temperature)
    first = 0
    for b, r in itertools.product(range(len(toy.image)), range(2)):
        drawn = samples_oracle(toy, b, r, temperature)
        texts = [spelled(t[1:], [x not in (0, toy.eos_id) for x in t[1:]]) for t, _ in drawn]
        expected = library(texts).mean(1)
        answer = [t for t, _ in drawn].index(found.tokens[b, r].tolist())
        assert expected[answer] == pytest.approx(expected.max(), abs=1e-6)
        assert found.scores[b, r] == pytest.approx(drawn[answer][1], abs=1e-5)
        first += expected[0] > expected.max() - 1e-6
    assert first < 6, "a search that returns the first sample would pass"


def test_an_answer_depends_on_its_own_row_alone(toys):
    toy = toys(3, batch=5)
    whole = generate(toy, samples=SAMPLES)
    alone = make_generate(toy.model, "mbr", length=LENGTH, eos_id=toy.eos_id, task_ids=toy.task_ids, samples=SAMPLES)
    params, image, mask, prompt = toy.inputs
    for i in range(5):
        one = alone(params, image[i : i + 1], mask[i : i + 1], prompt[i : i + 1])
        assert (np.asarray(one.tokens[0]) == whole.tokens[i]).all()


def test_samples_follow_the_tempered_distribution():
    log_probs = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    draws = risk.make_sampler(0.5)(np.broadcast_to(log_probs, (1, 1, 20_000, 4)), jax.random.key(1))
    share = np.bincount(np.asarray(draws).ravel(), minlength=4) / 20_000
    expected = np.exp(2 * log_probs) / np.exp(2 * log_probs).sum()
    np.testing.assert_allclose(share, expected, atol=0.012)  # three standard errors


def test_cold_samples_are_greedy(toy):
    greedy = make_generate(toy.model, "greedy", length=LENGTH, eos_id=toy.eos_id, task_ids=toy.task_ids)(*toy.inputs)
    assert (generate(toy, samples=3, temperature=1e-4).tokens == np.asarray(greedy.tokens)).all()


def test_what_is_out_of_range_is_refused(toy):
    with pytest.raises(ValueError, match="samples >= 1, decay"):
        generate(toy, samples=0)
    with pytest.raises(ValueError, match="temperature > 0"):
        generate(toy, temperature=0.0)
