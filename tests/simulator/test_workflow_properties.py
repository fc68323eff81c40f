"""Any valid setting of the workflow gives an operation that holds together; nothing is rendered."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_jax.simulator import SimulatorConfig, anatomy
from vlm_jax.simulator.config import WORLDS
from vlm_jax.simulator.findings import FINDINGS
from vlm_jax.simulator.keywords import KEYWORDS
from vlm_jax.simulator.language import write_report
from vlm_jax.simulator.steps import STEPS
from vlm_jax.simulator.workflow import draw_plan, n_activities
from vlm_jax.simulator.worlds import cases

CONFIGS = st.builds(
    SimulatorConfig,
    seed=st.integers(0, 2**32 - 1),
    activities_per_procedure=st.floats(12, 80),
    fps=st.floats(0.5, 60),
    activity_seconds=st.floats(1, 600),
    omission_rate=st.floats(0, 0.9),
    delay_rate=st.floats(0, 1),
    breach_rate=st.floats(0, 1),
    leak_rate=st.floats(0, 1),
    information=st.sampled_from([0.0, 0.5, 1.0]),
    stress=st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(config=CONFIGS, index=st.integers(0, 99_998))
def test_any_setting_gives_an_operation_that_holds_together(config, index):
    plan = draw_plan(config, index)
    assert len(plan.activities) == n_activities(config, index) >= 8
    assert 0 <= plan.surgeon < anatomy.N_SURGEONS and 0 <= plan.centre < anatomy.N_CENTRES
    assert set(plan.traits) == {(side, name) for side in anatomy.SIDES for name in FINDINGS}
    clock = 0
    for place, activity in enumerate(plan.activities):
        assert activity.index == place and clock <= activity.t0 < activity.t1 and activity.frames >= 1
        assert abs((activity.t1 - activity.t0) * config.fps / 1000 - activity.frames) <= config.fps / 1000
        assert activity.scope in anatomy.SCOPES and activity.side in anatomy.SIDES
        assert set(activity.landmarks) <= set(range(1, 21))
        assert STEPS[activity.step].number == activity.step
        clock = activity.t1
    assert draw_plan(config, index) == plan


@settings(max_examples=25, deadline=None)
@given(config=CONFIGS, index=st.integers(0, 1000), world=st.sampled_from(list(WORLDS)))
def test_any_setting_gives_a_report(config, index, world):
    config = SimulatorConfig(**{**config.to_json(), "world": world, "activities_per_procedure": 14.0})
    plan = draw_plan(config, index)
    dealt = cases(config, plan)
    report = write_report(config, plan, [frozenset(a.landmarks) for _, a in dealt], dealt)
    assert min(10, len(plan.activities)) <= len(report) <= 45
    assert len({s.activity.index for s in report}) == len(report)
    for statement in report:
        assert statement.keyword in KEYWORDS and "{" not in statement.text and statement.text
        assert statement.status in ("seen", "absent", "done", "history")
        assert statement.grounding in ("visual", "procedural", "none")
        if world == "reports_independent":
            assert statement.grounding != "visual"
