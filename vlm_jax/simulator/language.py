"""The two languages: descriptions of what is in view, and the report's sentences in ten surgeons' wordings."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlm_jax.simulator import anatomy
from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.findings import EMPTY, FINDINGS
from vlm_jax.simulator.keyword import Keyword
from vlm_jax.simulator.keywords import CORE, CROSSED, KEYWORDS, REVISED
from vlm_jax.simulator.plan import Plan, PlannedActivity, stream
from vlm_jax.simulator.scene import shown as trace_shows
from vlm_jax.simulator.worlds import Account, Case, cases

MAX_WORDS = 24
MAX_SENTENCES, MIN_SENTENCES = 45, 10
MAX_REFERENCES = 3
CLOCK = ("12 o'clock", "2 o'clock", "3 o'clock", "4 o'clock", "6 o'clock", "8 o'clock", "9 o'clock", "10 o'clock")
"""Eight sectors of 45 degrees, clockwise from the top; a mirror image maps the set onto itself (h to 12 - h)."""
CENTRE_RADIUS = 0.22
PARTIAL_SHARE = 0.75
"""Of its unoccluded projection; a landmark that shows less is partially visible."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One landmark of an activity's reference view: share of its unoccluded projection, its centre (right, up)."""

    number: int
    share: float
    centre: tuple[float, float]


def position(centre: tuple[float, float]) -> str:
    """The clock position of a point (right, up; radii from the image's centre)."""
    right, up = centre
    if math.hypot(right, up) < CENTRE_RADIUS:
        return "centre"
    return CLOCK[round(math.degrees(math.atan2(right, up)) / 45) % 8]


def describe(activity: PlannedActivity, seen: Sequence[Seen]) -> str:
    """`SIDE view of REGION, LANDMARK (visible | partially visible) POSITION [RELATION LANDMARK], ...`.

    Landmarks come in the order of the region's layout until 24 words are full; the first that has room takes a relation
    to another landmark in view. Only landmarks of `seen` are named.
    """
    clauses = [f"{activity.side} view of {activity.region}"]
    for item in seen:
        extent = "visible" if item.share >= PARTIAL_SHARE else "partially visible"
        clause = f"{anatomy.landmark(item.number).name} {extent} {position(item.centre)}"
        if _words([*clauses, clause]) > MAX_WORDS:
            break
        clauses.append(clause)
    numbers = {item.number for item in seen}
    for place, item in enumerate(seen[: len(clauses) - 1]):
        relations = [(r, n) for r, n in anatomy.landmark(item.number).neighbours if n in numbers]
        if relations:
            longer = f"{clauses[place + 1]} {relations[0][0]} {anatomy.landmark(relations[0][1]).name}"
            if _words([*clauses[: place + 1], longer, *clauses[place + 2 :]]) <= MAX_WORDS:
                clauses[place + 1] = longer
                break
    if len(clauses) == 1:
        clauses.append("no landmark visible")
    return ", ".join(clauses)


def _words(clauses: Sequence[str]) -> int:
    return len(" ".join(clauses).split())


# --- The report ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence of a report and the activity that is its evidence."""

    keyword: str
    activity: PlannedActivity
    text: str
    references: tuple[str, ...]
    status: str
    grounding: str


def word(code: str, side: str, value: str | None, surgeon: int) -> str:
    """A surgeon's sentence for a step code: value is the finding's (None for procedural codes)."""
    keyword, tool = KEYWORDS[code]
    wordings = keyword.absent if value == EMPTY else keyword.wordings
    text = wordings[(surgeon + zlib.crc32(code.encode())) % len(wordings)]
    clause = (f" with the {tool}", f" using the {tool}", f" by {tool}")[surgeon % 3] if tool else ""
    text = (
        text.format(v=_spoken(value, side), side=side, tool=clause)
        if "{tool}" in text
        else text.format(v=_spoken(value, side), side=side) + clause
    )
    if not keyword.lateral:
        return text
    return (f"{side}: {text}", f"{text} on the {side}", f"{text}, {side} side", f"{side} {text}")[surgeon % 4]


def wordings(code: str, side: str, value: str | None, surgeon: int) -> tuple[str, tuple[str, ...]]:
    """(the surgeon's sentence, how up to three others would have worded it)."""
    text = word(code, side, value, surgeon)
    others = [word(code, side, value, (surgeon + k) % anatomy.N_SURGEONS) for k in range(1, anatomy.N_SURGEONS)]
    return text, tuple(dict.fromkeys(other for other in others if other != text))[:MAX_REFERENCES]


def _spoken(value: str | None, side: str) -> str:
    if value == "towards this side":
        return side
    if value == "towards the other side":
        return "right" if side == "left" else "left"
    return value or ""


def write_report(
    config: SimulatorConfig, plan: Plan, labels: Sequence[frozenset[int]], shown: Sequence[Case] | None = None
) -> list[Statement]:
    """The sentences in the report's order. `labels[i]` are the landmarks of activity i's reference view.

    An activity is the evidence of at most one sentence. A finding is reported only where its landmark is in the
    reference view and its trace shows; except in the worlds of `worlds`, every visual sentence is true of its evidence.
    `shown` are the activities with their operations, where they are not all the plan's own.
    """
    rng, account = stream(config, plan.index, 5), Account(config, plan)
    shown = cases(config, plan) if shown is None else shown
    about = {activity.index: account.subject(own) for own, activity in shown}
    units: dict[tuple[str, int], list[PlannedActivity]] = {}
    for _, activity in shown:
        units.setdefault((activity.side, activity.step), []).append(activity)
    told: dict[int, Statement] = {}
    omitted: dict[int, Statement] = {}
    for (_, step), unit in units.items():
        for keyword in CORE:
            if step not in keyword.steps or rng.random() > keyword.share:
                continue
            free = [a for a in unit if a.index not in told and a.index not in omitted]
            places = [a for a in free if _happens(keyword, about[a.index], a, labels[a.index])]
            if places:
                activity = places[int(rng.integers(len(places)))]
                statement = _state(rng, about[activity.index], keyword, activity, account)
                (omitted if rng.random() < config.omission_rate else told)[activity.index] = statement
    for index in sorted(omitted)[: max(0, MIN_SENTENCES - len(told))]:
        told[index] = omitted[index]
    _fill(rng, about, [activity for unit in units.values() for activity in unit], told, account)
    while len(told) > MAX_SENTENCES:
        del told[sorted(told)[int(rng.integers(len(told)))]]
    report = [told[index] for index in sorted(told)]
    for place in range(len(report) - 1):
        if rng.random() < config.delay_rate:
            report[place], report[place + 1] = report[place + 1], report[place]
    return report


def _fill(
    rng: np.random.Generator,
    about: Mapping[int, Plan],
    activities: Sequence[PlannedActivity],
    told: dict[int, Statement],
    account: Account,
) -> None:
    """A short recording still yields a report of ten sentences: what may be said at any time."""
    navigation = KEYWORDS["navigation check"][0]
    for activity in sorted(activities, key=lambda a: a.index):
        if len(told) >= MIN_SENTENCES:
            return
        if activity.index not in told:
            told[activity.index] = _state(rng, about[activity.index], navigation, activity, account)


def _happens(keyword: Keyword, plan: Plan, activity: PlannedActivity, labels: frozenset[int]) -> bool:
    if keyword.phase != "any" and activity.turned != (keyword.phase == "after"):
        return False
    if keyword.needs and not _needed(keyword.needs, keyword, plan, activity):
        return False
    if keyword.finding is None:
        return True
    finding = FINDINGS[keyword.finding]
    return finding.anchor in labels and trace_shows(finding, activity)


def _needed(needs: str, keyword: Keyword, plan: Plan, activity: PlannedActivity) -> bool:
    if needs.startswith("Draf"):
        return plan.draf.get(activity.side) == needs
    if needs == "septoplasty":
        return plan.septoplasty == ("first" if activity.step == 0 else "last") and activity.side == plan.sides[0]
    if needs == "present":
        return plan.traits[activity.side, keyword.finding or ""] != EMPTY
    return {
        "revision": plan.revision,
        "turbinoplasty": plan.turbinoplasty,
        "first side": activity.side == plan.sides[0],
        "second side": activity.side != plan.sides[0],
        "angled": activity.scope > 0,
    }[needs]


def _state(
    rng: np.random.Generator, plan: Plan, keyword: Keyword, activity: PlannedActivity, account: Account
) -> Statement:
    code = _draw_code(rng, keyword.code, plan.revision)
    value, true = None, True
    if keyword.finding is not None:
        value, true = account.value(plan, activity.side, keyword.finding, keyword.needs == "present")
    text, references = wordings(code, account.side(activity.side), value, plan.surgeon)
    if value is not None:
        status = "absent" if value == EMPTY else "seen"
        return Statement(code, activity, text, references, status, "visual" if true else "none")
    ungrounded = keyword.status == "history" or keyword.code == "no complication"
    return Statement(code, activity, text, references, keyword.status, "none" if ungrounded else "procedural")


def _draw_code(rng: np.random.Generator, code: str, revision: bool) -> str:
    """The plain code, or one crossed with an instrument: Zipf-like, 1 / rank."""
    if revision and code in REVISED and rng.random() < 0.6:
        return f"revision of {code}"
    codes = [code] + [f"{code}, {tool}" for tool in CROSSED.get(code, ())]
    weights = 1 / np.arange(1, len(codes) + 1)
    return codes[int(rng.choice(len(codes), p=weights / weights.sum()))]
