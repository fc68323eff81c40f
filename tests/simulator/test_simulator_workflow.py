"""The assertions of the landmark table, read from the table alone, over a hundred procedures; nothing is rendered."""

from __future__ import annotations

import statistics
from collections import Counter

import numpy as np
import pytest

from vlm_jax.simulator import SimulatorConfig, anatomy
from vlm_jax.simulator.stations import LAYOUTS, NEEDS
from vlm_jax.simulator.steps import STEPS
from vlm_jax.simulator.surgery import SideState, available, in_view
from vlm_jax.simulator.workflow import draw_plan, draw_steps, n_activities

UNCINATE, OPENING, MAXILLARY, LAMELLA, POSTERIOR, SPHENOID, ARTERY = 5, 7, 8, 10, 11, 14, 17


def walk(plan):
    """(activity, steps finished on its side before it, steps begun there up to it) in order."""
    seen: dict[str, list[int]] = {side: [] for side in anatomy.SIDES}
    for activity in plan.activities:
        steps = seen[activity.side]
        if not steps or steps[-1] != activity.step:
            steps.append(activity.step)
        yield activity, set(steps[:-1]), set(steps)


def test_table_is_complete():
    assert [landmark.number for landmark in anatomy.LANDMARKS] == list(range(1, 21))
    assert len(set(anatomy.NAMES)) == 20
    known = {landmark.name for landmark in anatomy.LANDMARKS if landmark.known}
    assert known == {
        "middle nasal meatus",
        "middle nasal concha",
        "uncinate process",
        "anterior ethmoidal artery",
        "posterior ethmoidal artery",
    }
    assert sum(step.share for step in STEPS) == pytest.approx(1)
    placed = {number for layout in LAYOUTS.values() for number in layout}
    assert placed == set(range(1, 21))
    assert {view[0] for step in STEPS for view in step.views} == set(LAYOUTS) and set(NEEDS) < set(LAYOUTS)


def test_no_landmark_before_its_first_step_or_after_its_end(plans):
    for plan in plans:
        for activity, done, begun in walk(plan):
            for number in activity.landmarks:
                row = anatomy.landmark(number)
                assert begun & set(row.first), (number, activity)
                assert activity.scope in row.scopes
                if row.ends is not None and number != UNCINATE:
                    assert row.ends not in done, (number, activity)
                    if row.ends_at_turn:
                        assert not (activity.step == row.ends and activity.turned)
            if 10 in done:  # the stump of the uncinate process is gone with the frontal recess
                assert UNCINATE not in activity.landmarks


def test_forbidden_pairs_and_conditions(plans):
    views = Counter()
    for plan in plans:
        for activity, done, begun in walk(plan):
            seen = set(activity.landmarks)
            views.update(seen)
            for first, second in anatomy.FORBIDDEN_PAIRS:
                assert not {first, second} <= seen
            intact = UNCINATE in seen and not activity.state.passed(3)
            assert not (intact and OPENING in seen and activity.scope == 0)
            assert POSTERIOR not in seen or 6 in begun
            assert MAXILLARY not in seen or 4 in begun
            assert not {SPHENOID, LAMELLA} <= seen
            if SPHENOID in seen and not plan.back_to_front and 7 in begun:  # reached through the opened lamella
                assert 6 in done
    assert set(views) == set(range(1, 21))


def test_steps_keep_their_order_and_their_chances():
    rng = np.random.default_rng(0)
    n = 2000
    counts, swapped, backwards = Counter(), 0, 0
    for k in range(n):
        order = draw_steps(rng, back_to_front=bool(k % 3 == 0))
        counts.update(order)
        assert order[0] == 1 and order[-1] == 11 and len(set(order)) == len(order)
        for earlier, later in ((5, 6), (6, 7), (7, 9), (5, 10)):
            assert later not in order or order.index(earlier) < order.index(later)
        swapped += {4, 5} <= set(order) and order.index(5) < order.index(4)
        backwards += {7, 8} <= set(order) and order.index(8) < order.index(7)
    for step in STEPS[1:]:
        error = 3.5 * (step.probability * (1 - step.probability) / n) ** 0.5
        assert counts[step.number] / n == pytest.approx(step.probability, abs=error + 1e-9)
    assert swapped and backwards


@pytest.mark.parametrize("seed", range(4))
def test_thirty_procedures_have_the_known_number_of_activities(seed):
    config = SimulatorConfig(seed=seed)
    counts = [n_activities(config, index) for index in range(30)]
    assert sum(counts) == pytest.approx(4322, rel=0.02)
    assert statistics.stdev(counts) > 12


def test_shares_of_time_and_lengths(plans):
    frames = Counter()
    for plan in plans:
        for activity in plan.activities:
            frames[activity.step] += activity.frames
    total = sum(frames.values())
    for step in STEPS:
        assert frames[step.number] / total == pytest.approx(step.share, abs=0.02), step
    lengths = [a.t1 - a.t0 for plan in plans for a in plan.activities]
    assert statistics.mean(lengths) == pytest.approx(6000, rel=0.05)
    assert total / len(plans) == pytest.approx(4333, rel=0.05)
    video = sum(plan.activities[-1].t1 for plan in plans)
    assert sum(lengths) / video == pytest.approx(7.2 / 16, abs=0.04)


def test_activities_follow_one_another_in_time(plans):
    for plan in plans:
        assert all(b.t0 >= a.t1 > a.t0 for a, b in zip(plan.activities, plan.activities[1:], strict=False))
        assert [a.index for a in plan.activities] == list(range(len(plan.activities)))
        operated = {a.side for a in plan.activities if a.step > 0}
        assert operated == set(plan.sides)
        assert {a.side for a in plan.activities if a.step == 0} == set(anatomy.SIDES)


def test_surgeons_centres_and_sides_vary(plans):
    assert Counter(plan.surgeon for plan in plans) == dict.fromkeys(range(10), 10)
    assert Counter(plan.centre for plan in plans) == dict.fromkeys(range(5), 20)
    assert {plan.sides for plan in plans} == {("left",), ("right",), ("left", "right"), ("right", "left")}
    assert 4 < sum(plan.revision for plan in plans) < 30
    assert {plan.septoplasty for plan in plans} == {"", "first", "last"}


def test_a_short_recording_is_one_sided():
    config = SimulatorConfig(activities_per_procedure=12)
    for index in range(10):
        plan = draw_plan(config, index)
        assert len(plan.sides) == 1 and len(plan.activities) >= 8


def test_a_revision_begins_with_structures_missing(plans):
    missing = set()
    for plan in plans:
        first = plan.activities[0].state.missing
        assert plan.revision or not first
        missing |= first
    assert missing == {5, 6}
    state = SideState(missing=frozenset({6}))
    assert not available(6, state) and available(5, state)


def test_rules_of_single_states():
    fresh, opened = SideState(current=3), SideState(done=frozenset({0, 1, 2, 3}), current=4, turned=True)
    assert OPENING in in_view("ethmoidal infundibulum", fresh, 30)
    assert OPENING not in in_view("ethmoidal infundibulum", fresh, 0)
    assert OPENING not in in_view("ethmoidal infundibulum", opened, 30)  # widened
    assert MAXILLARY in in_view("maxillary sinus", opened, 70)
    assert not available(UNCINATE, opened)
    stump = SideState(done=opened.done, current=10, stump=True)
    assert available(UNCINATE, stump) and ARTERY not in in_view("frontal recess", stump, 70)
    assert available(13, SideState(roomy=True)) and not available(13, SideState())
    before = SideState(done=frozenset({0, 1, 2, 3, 4}), current=5)
    assert LAMELLA not in in_view("anterior ethmoid", before, 0)  # behind the bulla
