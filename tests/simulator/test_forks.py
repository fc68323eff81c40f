"""Forks of the generator: what they keep, what they redraw, and that forked futures are those of the generator."""

from __future__ import annotations

import functools
from collections import Counter
from itertools import product

import numpy as np
import pytest

from vlm_jax.simulator import SimulatorConfig, anatomy, workflow
from vlm_jax.simulator.findings import EMPTY
from vlm_jax.simulator.fork_reports import Reports, readings, turns
from vlm_jax.simulator.forks import Moment, Pool, fork_current, fork_next, observe
from vlm_jax.simulator.keywords import KEYWORDS
from vlm_jax.simulator.language import word
from vlm_jax.simulator.stress import value_rates

CONFIG = SimulatorConfig(seed=3)
draw_plan = functools.cache(workflow.draw_plan)  # several tests ask for the same ones


@pytest.fixture(scope="module")
def pool():
    return Pool(CONFIG, range(20))


def test_moments_that_look_alike_have_the_same_view_and_the_moment_is_among_them(pool):
    sizes = []
    for index in range(0, 140, 7):
        moment = Moment(draw_plan(CONFIG, 30), min(index, len(draw_plan(CONFIG, 30).activities) - 1))
        text, inputs, state = (pool.alike(moment, known) for known in ("text", "inputs", "state"))
        assert state == [moment] and moment in inputs and len(inputs) <= len(text)
        assert {m.activity.region for m in text} == {moment.activity.region}
        assert {m.activity.landmarks for m in text} == {moment.activity.landmarks}
        sizes.append((len(inputs), len(text)))
    few, many = np.sum(sizes, axis=0)
    assert 20 < few < many, "traces tell something, and not all"


def test_given_the_state_the_step_is_known_and_the_view_is_the_generator_s(pool):
    """Over many moments the forked regions, scopes and landmarks are distributed as the plans' own next ones."""
    rng = np.random.default_rng(0)
    forked, own = Counter(), Counter()
    for plan in (draw_plan(CONFIG, k) for k in range(40, 70)):
        for index in range(len(plan.activities) - 1):
            after = plan.activities[index + 1]
            [case] = fork_next(pool, Moment(plan, index), "state", 1, rng)
            assert case is not None
            _, activity = case
            assert (activity.side, activity.step, activity.state) == (after.side, after.step, after.state)
            forked[activity.region, activity.scope > 0] += 1
            own[after.region, after.scope > 0] += 1
    total = own.total()
    for key in own:
        p = own[key] / total
        assert forked[key] / total == pytest.approx(p, abs=5 * (2 * p * (1 - p) / total) ** 0.5 + 0.002), key
    last = Moment(draw_plan(CONFIG, 40), len(draw_plan(CONFIG, 40).activities) - 1)
    assert fork_next(pool, last, "state", 3, rng) == [None] * 3


def test_hands_differ_and_the_view_stays(pool):
    rng = np.random.default_rng(0)
    moment = Moment(draw_plan(CONFIG, 41), 30)
    known, shaky = (fork_current(moment, k, 12, rng) for k in ("state", "inputs"))
    assert {a.pan for _, a in known} == {moment.activity.pan} and len({a.pan for _, a in shaky}) == 12
    assert len({a.index for _, a in known}) == 12
    found = observe(CONFIG, known)
    assert len({labels for labels, _ in found}) <= 3
    assert all(text.startswith(f"{moment.activity.side} view of {moment.activity.region}") for _, text in found)


def test_what_would_read_the_same_moves_on(pool):
    case = (draw_plan(CONFIG, 41), draw_plan(CONFIG, 41).activities[30])
    [(_, text)] = observe(CONFIG, [case])
    [(_, moved)] = observe(CONFIG, [case], text)
    assert moved != text


def test_a_sentence_can_be_read_as_what_it_says():
    for plan in (draw_plan(CONFIG, k) for k in range(4)):
        for turn in turns(CONFIG, plan):
            keyword = KEYWORDS[turn.statement.keyword][0]
            side = turn.statement.activity.side
            value = None if keyword.finding is None else plan.traits[side, keyword.finding]
            assert (plan.surgeon, side, value) in readings(turn.statement)


def test_forked_sentences_are_distributed_as_enumerated():
    """Keyword alone, at the start of a report: every surgeon, side and value by its rate; with the image, its own."""
    sample = [turn for k in range(20) for turn in turns(CONFIG, draw_plan(CONFIG, k))]
    reports, rng, n = Reports(CONFIG, sample), np.random.default_rng(0), 2000
    starts = [t for t in sample if t.before is None and KEYWORDS[t.statement.keyword][0].finding is not None]
    turn = starts[0]
    code, finding = turn.statement.keyword, KEYWORDS[turn.statement.keyword][0].finding or ""
    for image in (False, True):
        expected = Counter()
        for surgeon, side, (value, rate) in product(
            range(anatomy.N_SURGEONS), anatomy.SIDES, value_rates(CONFIG, finding).items()
        ):
            if image:
                own = turn.statement.activity.side
                rate = float(value == turn.own.traits[own, finding] and side == own and surgeon // 2 == turn.own.centre)
            expected[word(code, side, value, surgeon)] += rate
        total = expected.total()
        found = Counter(text for text, _ in reports.fork(turn, image, n, rng))
        for text, weight in expected.items():
            p = weight / total
            assert found[text] / n == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5 + 1e-9), text


def test_context_tells_the_surgeon_and_never_rules_out_the_truth():
    sample = [turn for k in range(10) for turn in turns(CONFIG, draw_plan(CONFIG, k))]
    reports, rng = Reports(CONFIG, sample), np.random.default_rng(0)
    agreeing = []
    for turn in sample[::5]:
        forks = {text for text, _ in reports.fork(turn, True, 60, rng)}
        agreeing.append(turn.statement.text in forks)
        assert reports.fork_state(turn, 2, rng) == [(turn.statement.text, turn.statement.references)] * 2
    assert np.mean(agreeing) == 1.0
    with_value = [t for t in sample if KEYWORDS[t.statement.keyword][0].finding == "polyps"]
    texts = Counter(text for text, _ in reports.fork(with_value[0], False, 200, rng))
    assert len(texts) > 2 and EMPTY in value_rates(CONFIG, "polyps")
