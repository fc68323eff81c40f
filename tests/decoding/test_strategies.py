from __future__ import annotations

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest

from vlm_jax.decoding.sampling import make_sampler, restrict
from vlm_jax.decoding.strategies import make_generate


@functools.cache
def searching(model, strategy, length, eos_id, task_ids, options):
    """One search for all toys of a model: their parameters are its argument."""
    return make_generate(model, strategy, length=length, eos_id=eos_id, task_ids=dict(task_ids), **dict(options))


def generate(toy, strategy="greedy", length=6, key=None, allowed=None, **kwargs):
    if allowed is None:
        options = tuple(sorted(kwargs.items()))
        fn = searching(toy.model, strategy, length, toy.eos_id, tuple(toy.task_ids.items()), options)
    else:
        words = {"length": length, "eos_id": toy.eos_id, "task_ids": toy.task_ids, "allowed": allowed, **kwargs}
        fn = make_generate(toy.model, strategy, **words)
    return jax.tree.map(np.asarray, fn(*toy.inputs, key))


def rows(toy):
    return itertools.product(range(len(toy.image)), range(len(toy.model.text_tasks)))


def greedy_oracle(toy, b, r, length, allowed=None):
    """Argmax roll-out from the whole prefix each time, no cache."""
    tokens, total = [toy.task_ids[toy.model.text_tasks[r]]], []
    while len(tokens) < length and toy.eos_id not in tokens[1:]:
        last = toy.log_probs(b, r, tokens, allowed)[-1]
        tokens.append(int(last.argmax()))
        total.append(last.max())
    return tokens + [0] * (length - len(tokens)), float(np.mean(total))


def weighted(log_probs, decay, penalty):
    weights = np.exp(-decay * np.arange(len(log_probs)))
    return float((weights * log_probs).sum() / weights.sum() ** penalty)


def enumerate_best(toy, b, r, length, decay, penalty):
    """The best of all texts: every string over the vocabulary that ends in [EOS], or is cut at `length`."""
    first = toy.task_ids[toy.model.text_tasks[r]]
    vocabulary = list(range(toy.params["out"].shape[1]))
    words = [v for v in vocabulary if v != toy.eos_id]
    best = (-np.inf, [], 0.0)
    for n in range(1, length):
        for body in itertools.product(words, repeat=n - 1):
            ends = [toy.eos_id] if n < length - 1 else vocabulary
            table = toy.log_probs(b, r, [first, *body])
            for last in ends:
                text = [*body, last]
                gained = np.array([table[t, token] for t, token in enumerate(text)])
                score = weighted(gained, decay, penalty)
                if score > best[0]:
                    best = (score, [first, *text], float(gained.mean()))
    return best


def beam_oracle(toy, b, r, length, width, decay, penalty):
    """Beam search over Python lists, without early stop: the best finished hypothesis, or a cut one that beats it."""
    live, finished = [([toy.task_ids[toy.model.text_tasks[r]]], [])], []
    for _ in range(length - 1):
        candidates = []
        for tokens, gained in live:
            last = toy.log_probs(b, r, tokens)[-1]
            for token, value in enumerate(last):
                target = finished if token == toy.eos_id else candidates
                target.append(([*tokens, token], [*gained, value]))
        live = sorted(candidates, key=lambda c: -weighted(np.array(c[1]), decay, 0.0))[:width]
    return max(finished + live, key=lambda c: weighted(np.array(c[1]), decay, penalty))


@pytest.mark.parametrize("seed", range(3))
def test_greedy_equals_argmax_rollout(toys, seed):
    toy = toys(seed)
    out = generate(toy, length=8)
    for b, r in rows(toy):
        tokens, score = greedy_oracle(toy, b, r, 8)
        assert out.tokens[b, r].tolist() == tokens
        assert out.scores[b, r] == pytest.approx(score, abs=1e-4)


def test_landmark_logits_come_along_or_are_none(toy):
    light = toy.image.mean(axis=(1, 2, 3, 4)) / 255
    np.testing.assert_allclose(generate(toy).landmark_logits, np.stack([light, -light], -1), atol=1e-6)
    without = dataclasses.replace(toy, model=dataclasses.replace(toy.model, landmarks=False))
    assert generate(without).landmark_logits is None


@pytest.mark.parametrize("strategy", ["greedy", "beam"])
def test_model_without_text_tasks(toy, strategy):
    out = generate(dataclasses.replace(toy, model=dataclasses.replace(toy.model, text_tasks=())), strategy)
    assert out.tokens.shape == (3, 0, 6) and out.scores.shape == (3, 0)
    assert out.landmark_logits.shape == (3, 2)


def test_the_loop_stops_when_all_rows_have_ended(toy):
    steps = []

    class Counting(type(toy.model)):
        def decode_step(self, params, memory, cache, tokens, position):
            jax.debug.callback(lambda p: steps.append(int(p)), position)
            return super().decode_step(params, memory, cache, tokens, position)

    # One task token per task; the bias makes [EOS] certain, so one step is enough.
    sure = dict(toy.params, out=np.zeros_like(toy.params["out"]))
    allowed = np.arange(7) == toy.eos_id
    for strategy in ("greedy", "beam"):
        steps.clear()
        out = generate(dataclasses.replace(toy, model=Counting(), params=sure), strategy, length=50, allowed=allowed)
        jax.effects_barrier()
        assert steps == [0]
        assert (out.tokens[..., 1] == toy.eos_id).all() and not out.tokens[..., 2:].any()
        np.testing.assert_allclose(out.scores, 0.0, atol=1e-6)


@pytest.mark.parametrize(("decay", "penalty"), [(0.0, 0.0), (0.0, 1.0), (0.5, 0.0), (0.5, 1.0), (2.0, 0.6)])
def test_wide_beam_finds_the_best_of_all_texts(toys, decay, penalty):
    toy = toys(3, vocabulary=4, batch=2, sharp=1.0)
    out = generate(toy, "beam", length=5, beam=64, decay=decay, length_penalty=penalty)
    for b, r in rows(toy):
        _, tokens, mean = enumerate_best(toy, b, r, 5, decay, penalty)
        assert out.tokens[b, r].tolist() == tokens + [0] * (5 - len(tokens))
        assert out.scores[b, r] == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize(("width", "decay", "penalty"), [(2, 0.0, 0.0), (3, 0.0, 1.0), (3, 0.3, 1.0), (2, 1.0, 0.0)])
def test_narrow_beam_equals_a_beam_over_lists(toys, width, decay, penalty):
    for seed in range(3):
        toy = toys(seed, vocabulary=9)
        out = generate(toy, "beam", length=8, beam=width, decay=decay, length_penalty=penalty)
        for b, r in rows(toy):
            tokens, gained = beam_oracle(toy, b, r, 8, width, decay, penalty)
            assert out.tokens[b, r].tolist() == tokens + [0] * (8 - len(tokens))
            assert out.scores[b, r] == pytest.approx(np.mean(gained), abs=1e-4)


def test_decay_changes_the_winner_somewhere(toys):
    plain, decayed = (generate(toys(1, batch=16), "beam", beam=4, decay=d).tokens for d in (0.0, 1.5))
    assert (plain != decayed).any()


def test_beam_of_one_never_ends_on_the_way_to_a_better_text(toys):
    """Width 1, sum of log-probabilities: at least as good as greedy, which takes [EOS] only as the argmax."""
    toy = toys(5)
    one, greedy = generate(toy, "beam", beam=1, length_penalty=0.0), generate(toy)
    for b, r in rows(toy):
        totals = []
        for tokens in (one.tokens[b, r].tolist(), greedy.tokens[b, r].tolist()):
            n = tokens.index(toy.eos_id) if toy.eos_id in tokens[1:] else len(tokens) - 1
            table = toy.log_probs(b, r, tokens[:n])
            totals.append(sum(table[t, tokens[t + 1]] for t in range(n)))
        assert totals[0] >= totals[1] - 1e-6


@pytest.mark.parametrize("strategy", ["greedy", "beam", "sample"])
def test_forbidden_tokens_are_never_emitted(toys, strategy):
    toy = toys(2, batch=8)
    allowed = np.array([False, True, False, False, True, True])  # one short: the seventh is a padded row
    out = generate(toy, strategy, length=12, allowed=allowed, decay=3.0, key=jax.random.key(1))
    text = out.tokens[..., 1:]
    after = np.cumsum(text == toy.eos_id, axis=-1) - (text == toy.eos_id) > 0
    assert set(np.unique(text[~after])) <= {1, 4, 5}
    assert not text[after].any()
    assert np.isfinite(out.scores).all() and (out.scores > -20).all()


def test_masks_are_per_task_and_renormalise(toys):
    toy = toys(2)
    allowed = np.ones((2, 7), bool)
    allowed[0, 4:] = False
    out = generate(toy, length=8, allowed=allowed)
    for b, r in rows(toy):
        tokens, score = greedy_oracle(toy, b, r, 8, allowed[r])
        assert out.tokens[b, r].tolist() == tokens
        assert out.scores[b, r] == pytest.approx(score, abs=1e-4)


def test_a_mask_that_does_not_fit_is_an_error(toy):
    with pytest.raises(ValueError, match="does not fit"):
        generate(toy, allowed=np.ones(8, bool))
    with pytest.raises(ValueError, match="does not fit"):
        generate(toy, allowed=np.ones((3, 7), bool))


def test_sampling_follows_the_distribution(toys):
    toy = toys(4, batch=1)
    many = dataclasses.replace(toy, image=np.repeat(toy.image, 4000, 0), prompt=np.repeat(toy.prompt, 4000, 0))
    out = generate(many, "sample", length=2, key=jax.random.key(0), temperature=1.5)
    for r in range(2):
        counts = np.bincount(out.tokens[:, r, 1], minlength=7) / 4000
        logits = toy.log_probs(0, r, [toy.task_ids[toy.model.text_tasks[r]]])[-1] / 1.5
        np.testing.assert_allclose(counts, np.exp(logits) / np.exp(logits).sum(), atol=0.03)


def test_sampling_is_a_function_of_its_key(toys):
    toy = toys(4, batch=16)
    first, again, other = (generate(toy, "sample", key=jax.random.key(k)).tokens for k in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_sampling_from_the_top_one_is_greedy(toy):
    greedy = generate(toy).tokens
    assert (generate(toy, "sample", key=jax.random.key(3), top_k=1).tokens == greedy).all()
    assert (generate(toy, "sample", key=jax.random.key(3), top_p=1e-6).tokens == greedy).all()


def test_restrict_keeps_the_top_and_the_nucleus():
    logits = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], np.float32))
    kept = lambda *a: (np.asarray(restrict(logits, *a)) > -1e29).tolist()[0]  # noqa: E731
    assert kept(0, 1.0) == [True] * 4
    assert kept(2, 1.0) == [False, True, False, True]
    assert kept(0, 0.65) == [False, True, False, True]
    assert kept(0, 0.75) == [False, True, True, True]
    assert kept(1, 0.9) == [False, True, False, False]
    assert kept(9, 1.0) == [True] * 4


@pytest.mark.parametrize("kwargs", [{"temperature": 0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_sampler_refuses_what_is_out_of_range(kwargs):
    with pytest.raises(ValueError, match="temperature"):
        make_sampler(**kwargs)


@pytest.mark.parametrize("kwargs", [{"strategy": "best"}, {"length": 1}, {"beam": 0}, {"decay": -1.0}])
def test_make_generate_refuses_what_is_out_of_range(toy, kwargs):
    arguments = {"strategy": "beam", "length": 4, "eos_id": 1, "task_ids": toy.task_ids, **kwargs}
    with pytest.raises(ValueError, match=r"expected one of greedy|need length"):
        make_generate(toy.model, **arguments)


def test_sampling_without_a_key_is_an_error(toy):
    with pytest.raises(ValueError, match="needs a key"):
        generate(toy, "sample")
