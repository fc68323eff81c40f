"""The assertions of the landmark table, by code that reads the rows of a data set and neither plan nor renderer.

What may be seen when is written down here a second time, from the design, so that the generator's own table is checked
too. In the default tests over three procedures, in the slow ones over a thousand.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from graphlib import TopologicalSorter
from multiprocessing import get_context

import pytest

from vlm_jax.contract import ProcedureBundle
from vlm_jax.simulator import SimulatorConfig, make_procedure, procedure_ids
from vlm_jax.simulator.findings import FINDINGS
from vlm_jax.simulator.keywords import KEYWORDS

NAMES = (
    "nasal septum", "inferior nasal concha", "middle nasal concha", "middle nasal meatus", "uncinate process",
    "ethmoidal bulla", "opening of maxillary sinus", "maxillary sinus", "anterior ethmoidal cells",
    "basal lamella of middle concha", "posterior ethmoidal cells", "superior nasal concha",
    "opening of sphenoidal sinus", "sphenoidal sinus", "orbital plate of ethmoid", "roof of ethmoid",
    "anterior ethmoidal artery", "posterior ethmoidal artery", "frontal recess", "choana",
)  # fmt: skip
FIRST = {7: (3,), 8: (4,), 9: (5,), 10: (5,), 11: (6,), 14: (8,), 15: (5,), 16: (5,), 17: (9, 10), 18: (7,), 19: (5,)}
"""Landmark -> steps of which one has begun on its side; the others may be seen from S0 on."""
GONE_AFTER = {4: 5, 5: 10, 6: 5, 7: 4, 9: 5, 10: 6, 11: 7, 13: 8, 19: 10}
"""Landmark -> the step after whose end on this side it is never seen again (5: its stump)."""
SCOPES = {7: (30, 45), 17: (30, 45)}
NEVER_TOGETHER = ((17, 20), (18, 20))
OPPOSITE = {"medial to": "lateral to", "below": "above", "in front of": "behind"}
CLAUSE = re.compile(
    rf"({'|'.join(sorted(NAMES, key=len, reverse=True))}) (?:partially )?visible (?:\d+ o'clock|centre)"
    rf"(?: (medial to|lateral to|above|below|behind|in front of) ({'|'.join(sorted(NAMES, key=len, reverse=True))}))?"
)


def steps_by_then(bundle: ProcedureBundle):
    """(activity, its positive labels 1-20, steps begun on its side, steps ended there) in time."""
    runs: dict[str, list[int]] = defaultdict(list)
    for activity in bundle.activities:
        own, step = runs[activity.side or ""], int((activity.step or "S0")[1:])
        if not own or own[-1] != step:
            own.append(step)
        seen = {k for k, label in enumerate(activity.landmarks, 1) if label == 1}
        yield activity, seen, set(own), set(own[:-1])


def check_landmarks(bundle: ProcedureBundle) -> Counter:
    """Earliest step, end, scope and forbidden pairs of every label; how often each landmark is seen."""
    seen_at_all: Counter = Counter()
    entered: dict[str, list[int]] = defaultdict(list)
    for activity, seen, begun, ended in steps_by_then(bundle):
        where = f"{activity.id} {activity.side} {activity.step} {activity.scope} {sorted(seen)}"
        entered[activity.side or ""] += [step for step in begun if step not in entered[activity.side or ""]]
        assert len(activity.landmarks) == 20 and set(activity.landmarks) <= {0, 1}, where
        for k in seen:
            assert k not in FIRST or begun & set(FIRST[k]), f"{k} too early: {where}"
            assert GONE_AFTER.get(k) not in ended, f"{k} after its end: {where}"
            assert k not in SCOPES or activity.scope in SCOPES[k], f"{k} with this scope: {where}"
        for pair in NEVER_TOGETHER:
            assert not set(pair) <= seen, f"{pair} together: {where}"
        order = entered[activity.side or ""]
        through_the_nose = 8 in order and (7 not in order or order.index(8) < order.index(7))
        assert not {10, 14} <= seen or through_the_nose, f"14 behind an intact 10: {where}"
        assert not ({5, 7} <= seen and activity.scope == 0), f"7 behind an intact 5: {where}"
        seen_at_all.update(seen)
    return seen_at_all


def check_descriptions(bundle: ProcedureBundle) -> set[tuple[str, str, str]]:
    """Descriptions name what is labelled, on their side; the relations that they state."""
    relations = set()
    for activity in bundle.activities:
        labelled = {name for name, label in zip(NAMES, activity.landmarks, strict=True) if label == 1}
        head, _, rest = (activity.description or "").partition(", ")
        assert head.startswith(f"{activity.side} view of "), activity.description
        assert not {"left", "right"} & set(rest.split()), f"both sides in one view: {activity.description}"
        if rest != "no landmark visible":
            found = CLAUSE.findall(rest)
            assert ", ".join(m.group(0) for m in CLAUSE.finditer(rest)) == rest, activity.description
            named = {name for name, _, other in found} | {other for _, _, other in found if other}
            assert named <= labelled, f"names what is not seen: {activity.description}"
            relations |= {clause for clause in found if clause[1]}
        else:
            assert not labelled, activity.id
    return relations


def check_sentences(bundle: ProcedureBundle) -> None:
    """Each sentence stands on one activity, in a step of its keyword, on its side, with its landmark in view."""
    windows = {(a.t0, a.t1): a for a in bundle.activities}
    assert 10 <= len(bundle.sentences) <= 45
    for sentence in bundle.sentences:
        activity = windows[sentence.t0, sentence.t1]
        keyword = KEYWORDS[sentence.keyword or ""][0]
        assert int((activity.step or "S0")[1:]) in keyword.steps, (sentence, activity)
        if keyword.lateral:
            assert activity.side in re.findall(r"\w+", sentence.text), sentence
        visual = keyword.finding is not None
        assert visual == (sentence.grounding == "visual"), sentence
        assert sentence.status in (("seen", "absent") if visual else ("done", "history")), sentence
        if visual:
            assert activity.landmarks[FINDINGS[keyword.finding or ""].anchor - 1] == 1, sentence
        absent = any(
            sentence.text.find(w.split("{")[0].strip()) >= 0 for w in keyword.absent if w.split("{")[0].strip()
        )
        assert not visual or (sentence.status == "absent") <= absent, f"absent in status and not in words: {sentence}"


def check_relations(relations: set[tuple[str, str, str]]) -> None:
    """No relation is stated both ways round, and along each axis they give an order without a circle."""
    for word, inverse in OPPOSITE.items():
        follows: dict[str, set[str]] = defaultdict(set)
        for name, relation, other in relations:
            if relation in (word, inverse):
                low, high = (name, other) if relation == word else (other, name)
                follows[high].add(low)
        tuple(TopologicalSorter(follows).static_order())  # raises CycleError, naming the circle


Found = tuple[Counter, set[tuple[str, str, str]]]


def examine(bundle: ProcedureBundle) -> Found:
    """All assertions about one procedure: how often each landmark is seen, and the relations stated."""
    seen, relations = check_landmarks(bundle), check_descriptions(bundle)
    check_sentences(bundle)
    return seen, relations


def check(found: Iterable[Found], whole: bool) -> None:
    """What holds over all procedures; `whole`: so many that every landmark is seen somewhere."""
    seen, relations = Counter(), set()
    for some, stated in found:
        seen += some
        relations |= stated
    check_relations(relations)
    missing = set(range(1, 21)) - set(seen)
    assert not missing or not whole, f"never seen: {missing}"
    assert len(relations) > 10


@pytest.mark.slow
def test_three_procedures_hold_to_the_table(full):
    check((examine(bundle) for _, bundle in full), whole=False)


THOUSAND = SimulatorConfig(seed=11, procedures=1000, frames_per_procedure=1, image_size=16)


def examine_one(id: str) -> Found:
    return examine(make_procedure(THOUSAND, id))


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_a_thousand_procedures_hold_to_the_table():
    """A procedure a core, about six seconds each."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        check(pool.map(examine_one, procedure_ids(THOUSAND), chunksize=5), whole=True)


@pytest.mark.slow
def test_the_checks_hear_what_is_wrong(full):
    """Each check fails on a table that breaks its rule."""
    from dataclasses import replace

    _, bundle = full[0]
    first = bundle.activities[0]

    def with_first(**change):
        return replace(bundle, activities=(replace(first, **change), *bundle.activities[1:]))

    def labels(*numbers):
        return tuple(int(k in numbers) for k in range(1, 21))

    for numbers, message in (((14,), "too early"), ((17, 20), "too early"), ((7,), "too early")):
        with pytest.raises(AssertionError, match=message):
            check_landmarks(with_first(landmarks=labels(*numbers)))
    last = bundle.activities[-1]
    late = replace(bundle, activities=(*bundle.activities[:-1], replace(last, landmarks=labels(6))))
    if "S5" in {a.step for a in bundle.activities if a.side == last.side}:
        with pytest.raises(AssertionError, match="after its end"):
            check_landmarks(late)
    with pytest.raises(AssertionError, match="not seen"):
        check_descriptions(with_first(landmarks=labels()))
    with pytest.raises(AssertionError):
        check_sentences(
            replace(bundle, sentences=(replace(bundle.sentences[0], grounding="visual", keyword="packing"),))
        )
    with pytest.raises(ValueError, match="cycle"):
        check_relations({("choana", "below", "frontal recess"), ("choana", "above", "frontal recess")})
