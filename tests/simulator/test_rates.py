"""How often things are drawn, held to the tables by exact binomial tests: one false alarm in ten thousand at most."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from scipy.stats import binomtest

from vlm_jax.simulator import SimulatorConfig, anatomy, stress
from vlm_jax.simulator.findings import FINDINGS
from vlm_jax.simulator.steps import STEPS
from vlm_jax.simulator.workflow import draw_plan

FALSE_ALARMS = 1e-4


def check_rates(rows: list[tuple[str, int, int, float]]) -> None:
    """(what, times, of how many, expected share): none is further off than chance allows, all of them counted."""
    for what, times, n, share in rows:
        p = binomtest(times, n, min(share, 1.0)).pvalue
        assert p > FALSE_ALARMS / len(rows), f"{what}: {times} of {n}, expected {share:.3f} (p {p:.2g})"


def finding_rows(config, plans) -> list[tuple[str, int, int, float]]:
    """A row a value of a finding; the septum's right side is its left one's opposite and says nothing of its own."""
    rows = []
    for name in FINDINGS:
        if name in ("orbital fat", "leak"):  # complications, below
            continue
        sides = ("left",) if name == "septum" else anatomy.SIDES
        drawn = Counter(plan.traits[side, name] for plan in plans for side in sides)
        rates = stress.value_rates(config, name)
        rows += [(f"{name}: {value}", drawn[value], len(plans) * len(sides), rate) for value, rate in rates.items()]
    return rows


@pytest.mark.parametrize("stressed", [False, True])
def test_findings_are_as_frequent_as_their_tables_say(plans, stressed):
    config = SimulatorConfig(seed=3, stress=stressed, activities_per_procedure=24)
    drawn = [draw_plan(config, index) for index in range(150)] if stressed else plans
    rows = finding_rows(config, drawn)
    assert len(rows) > 50
    check_rates(rows)


def test_complications_and_steps_are_as_frequent_as_set(plans):
    config = SimulatorConfig(seed=3, breach_rate=0.3, leak_rate=0.2)
    drawn = [draw_plan(config, index) for index in range(100)]
    rows = []
    for name, value, rate in (("orbital fat", "orbital fat", 0.3), ("leak", "clear fluid", 0.2)):
        times = sum(any(plan.traits[side, name] == value for side in anatomy.SIDES) for plan in drawn)
        rows.append((name, times, len(drawn), rate))
    operated = [(plan, side) for plan in plans for side in plan.sides]
    for step in STEPS:
        if 0 < step.probability < 1:
            done = sum(any(a.side == s and a.step == step.number for a in p.activities) for p, s in operated)
            rows.append((f"step {step.number}", done, len(operated), step.probability))
    assert len(rows) > 5
    check_rates(rows)


def test_a_wrong_rate_is_noticed(plans):
    """The test of the tests: twice a finding's rate, or half of it, is not taken for chance."""
    rows = finding_rows(SimulatorConfig(seed=3), plans)
    for factor in (0.5, 2.0):
        what, times, n, share = next(r for r in rows if r[2] == 200 and 0.29 < r[3] < 0.45)
        with pytest.raises(AssertionError, match=what):
            check_rates([(what, round(times * factor), n, share)])


def test_the_rates_of_the_stress_set_differ():
    plain, stressed = SimulatorConfig(), replace(SimulatorConfig(), stress=True)
    assert stress.value_rates(plain, "polyps") != stress.value_rates(stressed, "polyps")
