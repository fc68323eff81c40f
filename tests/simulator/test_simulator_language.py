"""Descriptions name only what is visible; reports hold to their evidence, their keywords and their lengths."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace

import pytest

from vlm_jax.simulator import SimulatorConfig, anatomy
from vlm_jax.simulator.findings import EMPTY, FINDINGS
from vlm_jax.simulator.keywords import CORE, CROSSED, KEYWORDS, REVISED, TOOLS
from vlm_jax.simulator.language import Seen, describe, position, word, write_report
from vlm_jax.simulator.scene import shown
from vlm_jax.simulator.stations import LAYOUTS
from vlm_jax.simulator.workflow import draw_plan

LEAKS = {"left", "right", "small", "large", "wide", "narrow", "mild", "marked", "purulent", "mucus", "pus"}


def named(description: str) -> set[str]:
    """Landmark names in a description's clauses (the first clause is the region)."""
    text = ", ".join(description.split(", ")[1:])
    found = set()
    for name in sorted(anatomy.NAMES, key=len, reverse=True):
        if name in text:
            found.add(name)
            text = text.replace(name, "#")
    return found


@pytest.mark.slow
def test_descriptions_follow_the_grammar_and_name_only_what_is_visible(full):
    names = "|".join(anatomy.NAMES)
    place = r"(?:(?:12|2|3|4|6|8|9|10) o'clock|centre)"
    relation = r"(?: (?:medial to|lateral to|above|below|behind|in front of) (?:" + names + "))?"
    clause = rf"(?:{names}) (?:partially visible|visible) {place}{relation}"
    grammar = re.compile(rf"(left|right) view of ({'|'.join(LAYOUTS)})(, {clause})+|.*, no landmark visible")
    vocabulary = set()
    for _, bundle in full:
        for activity in bundle.activities:
            assert grammar.fullmatch(activity.description), activity.description
            assert activity.description.startswith(activity.side)
            assert len(activity.description.split()) <= 24
            visible = {name for name, label in zip(anatomy.NAMES, activity.landmarks, strict=True) if label}
            assert named(activity.description) <= visible
            assert bool(visible) == ("no landmark" not in activity.description)
            vocabulary |= set(activity.description.replace(",", "").split())
    assert 55 <= len(vocabulary) <= 100


@pytest.mark.slow
def test_neighbouring_activities_rarely_read_the_same(full):
    pairs = [(a, b) for _, bundle in full for a, b in zip(bundle.activities, bundle.activities[1:], strict=False)]
    assert sum(a.description == b.description for a, b in pairs) / len(pairs) < 0.06


@pytest.mark.parametrize(
    ("centre", "said"),
    [
        ((0, 0.5), "12 o'clock"),
        ((0.4, 0.4), "2 o'clock"),
        ((0.5, 0), "3 o'clock"),
        ((0.4, -0.4), "4 o'clock"),
        ((0, -0.5), "6 o'clock"),
        ((-0.4, -0.4), "8 o'clock"),
        ((-0.5, 0), "9 o'clock"),
        ((-0.4, 0.4), "10 o'clock"),
        ((0.1, 0.1), "centre"),
    ],
)
def test_clock_positions(centre, said):
    assert position(centre) == said
    mirrored = re.sub(r"\d+", lambda h: str((12 - int(h[0])) % 12 or 12), said)
    assert position((-centre[0], centre[1])) == mirrored


def test_describe_cuts_at_24_words_and_says_when_nothing_is_there(plans):
    activity = plans[0].activities[0]
    assert describe(activity, []) == f"{activity.side} view of {activity.region}, no landmark visible"
    text = describe(activity, [Seen(n, 0.5, (0.5, 0.0)) for n in (7, 10, 15, 16)])
    assert len(text.split()) <= 24 and "partially visible 3 o'clock" in text
    related = describe(activity, [Seen(3, 1.0, (-0.5, 0.0)), Seen(4, 1.0, (0.5, 0.0))])
    assert "middle nasal concha visible 9 o'clock medial to middle nasal meatus" in related


@pytest.mark.slow
def test_the_list_of_keywords_is_closed_and_leaks_nothing(full):
    assert 140 <= len(KEYWORDS) <= 160
    for code in KEYWORDS:
        assert not LEAKS & set(re.findall(r"\w+", code.lower())), code
    values = {value for finding in FINDINGS.values() for value in finding.values}
    for _, bundle in full:
        for sentence in bundle.sentences:
            assert sentence.keyword in KEYWORDS
    core = {keyword.code for keyword in CORE}
    assert set(CROSSED) | set(REVISED) <= core
    assert {tool for tools in CROSSED.values() for tool in tools} <= set(TOOLS)
    assert {k.finding for k in CORE} - {None} == set(FINDINGS)
    assert not values & core - {"concha bullosa", "accessory opening", "infraorbital cell", "sphenoethmoidal cell"}


@pytest.mark.slow
def test_report_lengths(full):
    counts = [len(bundle.sentences) for _, bundle in full]
    assert min(counts) >= 10 and max(counts) <= 45 and 25 < statistics.mean(counts) < 38
    words = [len(s.text.split()) for _, bundle in full for s in bundle.sentences]
    assert statistics.mean(words) == pytest.approx(8, abs=0.6)


@pytest.mark.slow
def test_sentences_are_true_of_their_evidence(full):
    for plan, bundle in full:
        rows = {(a.t0, a.t1): (a, p) for a, p in zip(bundle.activities, plan.activities, strict=True)}
        assert len({s.t0 for s in bundle.sentences}) == len(bundle.sentences)
        for sentence in bundle.sentences:
            activity, planned = rows[sentence.t0, sentence.t1]
            keyword, _ = KEYWORDS[sentence.keyword]
            value = None
            if keyword.finding is not None:
                value, finding = plan.traits[activity.side, keyword.finding], FINDINGS[keyword.finding]
                assert activity.landmarks[finding.anchor - 1] == 1 and shown(finding, planned)
                assert sentence.status == ("absent" if value == EMPTY else "seen") and sentence.grounding == "visual"
            else:
                assert sentence.status in ("done", "history") and sentence.grounding in ("procedural", "none")
            assert sentence.text == word(sentence.keyword, activity.side, value, plan.surgeon)
            assert sentence.text not in sentence.references and len(sentence.references) <= 3
            assert keyword.lateral <= (activity.side in sentence.text)
            assert "{" not in sentence.text


def test_every_surgeon_words_every_code():
    for code, (keyword, tool) in KEYWORDS.items():
        values = [None] if keyword.finding is None else list(FINDINGS[keyword.finding].values)
        for value in values:
            if value == EMPTY and not keyword.absent:
                assert keyword.needs == "present" or keyword.finding is None, code
                continue
            texts = {word(code, "left", value, surgeon) for surgeon in range(anatomy.N_SURGEONS)}
            assert len(texts) > 1 and all(not tool or tool in text for text in texts)
    assert "right" in word("septal deviation", "left", "towards the other side", 0)
    assert "left" in word("septal deviation", "left", "towards this side", 0)


def test_empty_report_is_filled_delays_reorder_and_long_ones_are_cut():
    config = SimulatorConfig(omission_rate=0.9, delay_rate=1.0)
    plan = draw_plan(config, 1)
    report = write_report(config, plan, [frozenset()] * len(plan.activities))
    assert len(report) >= 10
    assert [s.activity.index for s in report] != sorted(s.activity.index for s in report)
    short = replace(plan, activities=plan.activities[:12], traits=dict.fromkeys(plan.traits, EMPTY))
    filled = write_report(replace(config, delay_rate=0.0), short, [frozenset()] * 12)
    assert len(filled) == 10 and "navigation check" in {s.keyword for s in filled}
    everything = [frozenset(range(1, 21))] * len(plan.activities)
    assert len(write_report(SimulatorConfig(omission_rate=0.0), plan, everything)) <= 45


def test_rare_events_are_reported_when_they_happen():
    config = SimulatorConfig(breach_rate=1.0, leak_rate=1.0, omission_rate=0.0)
    codes = set()
    for index in range(6):
        plan = draw_plan(config, index)
        codes |= {s.keyword for s in write_report(config, plan, [frozenset(range(1, 21))] * len(plan.activities))}
    assert {"orbital fat exposed", "cerebrospinal fluid leak"} <= codes
    never = draw_plan(SimulatorConfig(breach_rate=0.0, leak_rate=0.0), 0)
    assert {never.traits[side, name] for side in anatomy.SIDES for name in ("orbital fat", "leak")} == {EMPTY}
