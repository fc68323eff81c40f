"""Worlds in which a text is, by construction, silent about the image: what a study's findings are checked against.

- `reports_independent`: the report is that of another patient. Every finding in it is drawn anew from the same rates,
  the side it names is swapped or not by one coin a procedure, and the centre (which the image shows) is drawn without
  regard to the surgeon (whose wording it is). Keyword, context and evidence windows stay those of the operation. Visual
  sentences carry grounding `none`: no frame settles them.
- `previous_shuffled`: every activity is taken from an operation of its own, so what came before says nothing of what is
  in view. Labels, descriptions and sentences are true of their own activity; order in time means nothing.
- `information` below 1 (in any world): that share of the visual sentences and of the descriptions is true to the scene;
  the others are drawn from the marginal. A sentence drawn so has grounding `none`; a description drawn so is that of
  a random activity of another operation, beside labels that stay true.
"""

from __future__ import annotations

from dataclasses import replace

from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.plan import Plan, PlannedActivity, stream
from vlm_jax.simulator.stress import value_rates
from vlm_jax.simulator.workflow import draw_plan, draw_traits, other_side

Case = tuple[Plan, PlannedActivity]
"""An activity with the operation whose patient it shows."""

_DONORS, _SLOTS, _TEXTS = 1_000_000, 20_000, 10_000
"""Operations beyond `_DONORS` are nobody's own: one a slot of a procedure; slots from `_TEXTS` on are for texts."""


def donor(config: SimulatorConfig, index: int, slot: int) -> Case:
    """A random activity of an operation that depends on nothing in procedure `index`."""
    plan = draw_plan(config, _DONORS + index * _SLOTS + slot)
    return plan, plan.activities[int(stream(config, plan.index, 9).integers(len(plan.activities)))]


def cases(config: SimulatorConfig, plan: Plan) -> list[Case]:
    """What each activity of a procedure shows: its own operation, or, where they are shuffled, one of another each."""
    if config.world != "previous_shuffled":
        return [(plan, activity) for activity in plan.activities]
    dealt = []
    for own in plan.activities:
        other, shown = donor(config, plan.index, own.index)
        other = replace(other, surgeon=plan.surgeon, centre=plan.centre)
        dealt.append((other, replace(shown, index=own.index, t0=own.t0, t1=own.t1, frames=own.frames)))
    return dealt


def loose_descriptions(config: SimulatorConfig, plan: Plan) -> list[Case | None]:
    """For each activity whose description is drawn from the marginal, the activity whose description it gets."""
    if config.information == 1:
        return [None] * len(plan.activities)
    loose = stream(config, plan.index, 10).random(len(plan.activities)) >= config.information
    return [donor(config, plan.index, _TEXTS + k) if drawn else None for k, drawn in enumerate(loose)]


class Account:
    """Whose findings a report tells, and on which side: those of the scene, wholly or in part, or of nobody in it."""

    def __init__(self, config: SimulatorConfig, plan: Plan) -> None:
        self._config, self._rng = config, stream(config, plan.index, 11)
        self._other = config.world == "reports_independent"
        self._swapped = self._other and bool(self._rng.random() < 0.5)
        self._traits = draw_traits(config, self._rng, plan.sides) if self._other else {}

    def subject(self, plan: Plan) -> Plan:
        """The operation with the findings that the report is about."""
        return replace(plan, traits=self._traits) if self._other else plan

    def side(self, side: str) -> str:
        """The side that a sentence names."""
        return other_side(side) if self._swapped else side

    def value(self, subject: Plan, side: str, finding: str, present: bool) -> tuple[str, bool]:
        """(what the sentence says of the finding, whether the scene says so, too); `present`: it is there for sure."""
        told = subject.traits[side, finding]
        if self._other or self._config.information == 1 or present or self._rng.random() < self._config.information:
            return told, not self._other
        rates = value_rates(self._config, finding)
        return str(self._rng.choice(list(rates), p=list(rates.values()))), False
