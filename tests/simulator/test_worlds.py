"""Null worlds, looser worlds and the stress set: what they break, and that they break nothing else."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from vlm_jax.contract import is_simulated
from vlm_jax.simulator import SimulatorConfig, anatomy, dataset_info, make_procedure, procedure_ids
from vlm_jax.simulator.findings import EMPTY, FINDINGS
from vlm_jax.simulator.keywords import KEYWORDS
from vlm_jax.simulator.language import word, write_report
from vlm_jax.simulator.stress import RATES, value_rates
from vlm_jax.simulator.workflow import draw_plan
from vlm_jax.simulator.worlds import cases, loose_descriptions

EVERYTHING = frozenset(range(1, 21))
SHORT = SimulatorConfig(seed=7, procedures=12, frames_per_procedure=1, image_size=16, activities_per_procedure=16)


@functools.cache
def told(config, index):
    """(plan, sentences) of a procedure whose every landmark is in view: nothing is rendered. Several tests ask."""
    plan = draw_plan(config, index)
    return plan, write_report(config, plan, [EVERYTHING] * len(plan.activities))


def value_of(statement, surgeon):
    """(side said, value said) of a visual sentence, found by wording it in every way, its own side first."""
    code, finding = statement.keyword, KEYWORDS[statement.keyword][0].finding
    for side in sorted(anatomy.SIDES, key=lambda side: side != statement.activity.side):
        for value in FINDINGS[finding or ""].values:
            if statement.text == word(code, side, value, surgeon):
                return side, value
    raise AssertionError(statement)


@pytest.mark.parametrize(
    ("more", "world"),
    [
        ({}, "simulated"),
        ({"stress": True}, "simulated, stress"),
        ({"world": "reports_independent"}, "simulated, reports independent"),
        ({"world": "previous_shuffled", "information": 0.5}, "simulated, previous shuffled, information 0.5"),
    ],
)
def test_a_data_set_says_which_world_it_is_of(more, world):
    config = SimulatorConfig(**more)
    info = dataset_info(config)
    assert info.world == world and is_simulated(info.world)
    assert all(info.generator["config"][name] == value for name, value in more.items())
    assert (procedure_ids(config)[0] == "fess-0-00000") == (not more)


def agreement(config, n=40):
    """Share of the visual sentences whose value and side are the scene's; and their groundings."""
    same = total = 0
    grounds = Counter()
    for index in range(n):
        plan, report = told(config, index)
        for statement in report:
            keyword = KEYWORDS[statement.keyword][0]
            if keyword.finding is None or keyword.needs == "present":
                continue
            side, value = value_of(statement, plan.surgeon)
            true = value == plan.traits[statement.activity.side, keyword.finding]
            true &= side == statement.activity.side or not keyword.lateral
            grounds[statement.grounding, true] += 1
            same, total = same + true, total + 1
            assert statement.status == ("absent" if value == EMPTY else "seen")
    return same / total, grounds


def test_reports_say_what_the_scene_shows_to_the_asked_extent():
    whole, grounds = agreement(SimulatorConfig(seed=2))
    assert whole == 1 and set(grounds) == {("visual", True)}
    shares = {level: agreement(SimulatorConfig(seed=2, information=level))[0] for level in (0.0, 0.5)}
    by_chance = shares[0.0]
    assert 0.3 < by_chance < 0.6
    assert shares[0.5] == pytest.approx(0.5 + 0.5 * by_chance, abs=0.05)
    _, grounds = agreement(SimulatorConfig(seed=2, information=0.5))
    assert grounds["visual", False] == 0 and grounds["none", True] > 0


def test_independent_reports_say_nothing_of_the_scene():
    config = SimulatorConfig(seed=2, world="reports_independent")
    share, grounds = agreement(config)
    assert share < 0.5 and {ground for ground, _ in grounds} == {"none"}
    pairs, sides = defaultdict(list), []
    for index in range(150):
        plan, report = told(config, index)
        for statement in report:
            keyword = KEYWORDS[statement.keyword][0]
            if keyword.finding in ("polyps", "roof", "septum", "maxillary content"):
                _, value = value_of(statement, plan.surgeon)
                pairs[keyword.finding].append((plan.traits[statement.activity.side, keyword.finding], value))
            elif keyword.code == "infiltration":
                sides.append((statement.activity.side, re.findall("left|right", statement.text)[0]))
    for name, found in {**pairs, "side": sides}.items():
        true, said = zip(*found, strict=True)
        cells = len(set(true)) * len(set(said))
        # 2 n I is chi-squared with (r - 1)(c - 1) degrees of freedom where they are independent.
        freedom = (len(set(true)) - 1) * (len(set(said)) - 1)
        assert 2 * len(found) * mutual_info_score(true, said) < freedom + 4 * (2 * freedom) ** 0.5, (name, cells)
    normal = SimulatorConfig(seed=2)
    for name in ("polyps", "roof"):  # the marginals are those of the normal world
        theirs = Counter(value for _, value in pairs[name])
        rates = value_rates(normal, name)
        for value, rate in rates.items():
            assert theirs[value] / theirs.total() == pytest.approx(rate, abs=0.15)


def test_where_reports_are_independent_the_centre_does_not_give_the_surgeon_away():
    plans = [draw_plan(SimulatorConfig(world="reports_independent"), k) for k in range(100)]
    pairs = Counter((plan.surgeon, plan.centre) for plan in plans)
    assert len(pairs) > 30 and Counter(plan.centre for plan in plans) == dict.fromkeys(range(5), 20)


def test_keywords_and_windows_of_independent_reports_are_the_operation_s():
    for index in range(5):
        normal = told(SimulatorConfig(seed=2), index)[1]
        other = told(SimulatorConfig(seed=2, world="reports_independent"), index)[1]
        procedural = [s.keyword for s in normal if s.grounding == "procedural"]
        assert procedural and len(other) >= 10
        assert all(s.activity.step in KEYWORDS[s.keyword][0].steps for s in other)


def test_shuffled_activities_are_of_strangers():
    config = dataclasses.replace(SHORT, world="previous_shuffled")
    pairs = []
    for index in range(6):
        plan = draw_plan(config, index)
        dealt = cases(config, plan)
        assert len({own.index for own, _ in dealt}) == len(plan.activities)
        assert {own.centre for own, _ in dealt} == {plan.centre}
        for (_, given), planned in zip(dealt, plan.activities, strict=True):
            assert (given.index, given.t0, given.t1) == (planned.index, planned.t0, planned.t1)
        steps = [given.step for _, given in dealt]
        pairs += list(zip(steps, steps[1:], strict=False))
    before, after = np.array(pairs).T
    assert abs(np.corrcoef(before, after)[0, 1]) < 0.3
    normal = [a.step for k in range(6) for a in draw_plan(SHORT, k).activities]
    assert np.corrcoef(normal[:-1], normal[1:])[0, 1] > 0.4, "in the normal world steps follow one another"


def named(description):
    text, found = ", ".join(description.split(", ")[1:]), set()
    for name in sorted(anatomy.NAMES, key=len, reverse=True):
        if name in text:
            found.add(name)
            text = text.replace(name, "#")
    return found


def visible(activity):
    return {name for name, label in zip(anatomy.NAMES, activity.landmarks, strict=True) if label}


def test_shuffled_rows_are_true_of_their_own_activity():
    config = dataclasses.replace(SHORT, world="previous_shuffled")
    for id in procedure_ids(config)[:3]:
        bundle = make_procedure(config, id)
        by_time = {(a.t0, a.t1): a for a in bundle.activities}
        for activity in bundle.activities:
            assert named(activity.description) <= visible(activity) and activity.description.startswith(activity.side)
        for sentence in bundle.sentences:
            keyword = KEYWORDS[sentence.keyword][0]
            activity = by_time[sentence.t0, sentence.t1]
            assert f"S{keyword.steps[0]}" if len(keyword.steps) == 1 else activity.step
            assert not keyword.lateral or activity.side in sentence.text
            if sentence.grounding == "visual":
                assert activity.landmarks[FINDINGS[keyword.finding].anchor - 1] == 1
        assert 10 <= len(bundle.sentences) <= 45


@pytest.mark.slow
def test_information_loosens_that_share_of_the_descriptions():
    config = dataclasses.replace(SHORT, information=0.5, activities_per_procedure=40)
    loose = [case is not None for k in range(12) for case in loose_descriptions(config, draw_plan(config, k))]
    assert np.mean(loose) == pytest.approx(0.5, abs=3 * 0.5 / len(loose) ** 0.5)
    normal, mixed = (
        make_procedure(c, procedure_ids(c)[0]) for c in (dataclasses.replace(config, information=1.0), config)
    )
    kept = [a.description == b.description for a, b in zip(normal.activities, mixed.activities, strict=True)]
    assert kept == [not drawn for drawn in loose[: len(kept)]]
    assert [a.landmarks for a in normal.activities] == [a.landmarks for a in mixed.activities]


def test_the_stress_set_has_what_is_rare():
    config = SimulatorConfig(seed=4, stress=True, omission_rate=0.0)
    plans = [draw_plan(config, k) for k in range(120)]
    for name, rate in (("orbital fat", RATES["breach"]), ("leak", RATES["leak"])):
        having = np.mean([any(plan.traits[side, name] != EMPTY for side in anatomy.SIDES) for plan in plans])
        assert having == pytest.approx(rate, abs=3.5 * (rate * (1 - rate) / 120) ** 0.5)
    bleeding = np.mean([plan.traits["left", "bleeding concha"] != EMPTY for plan in plans])
    assert bleeding > 0.85
    codes = Counter(s.keyword for k in range(40) for s in told(config, k)[1])
    assert codes["orbital fat exposed"] >= 10 and codes["cerebrospinal fluid leak"] >= 3
    for name in FINDINGS:
        assert sum(value_rates(config, name).values()) == pytest.approx(1)
        assert list(value_rates(config, name)) == list(FINDINGS[name].values)
