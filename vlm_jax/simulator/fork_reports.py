"""The next sentence of a report, forked: given the keyword, and what image and context reveal beside it.

The context is the sentence before. It reveals every surgeon, side and value that could have worded it so; the image
reveals side, centre (hence two of ten surgeons) and the value of the finding that the keyword asks for. What neither
reveals is drawn from the generator's rates. Which events happen is read from the plan: labels are not rendered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlm_jax.simulator import anatomy
from vlm_jax.simulator.config import SimulatorConfig
from vlm_jax.simulator.findings import EMPTY, FINDINGS
from vlm_jax.simulator.keywords import KEYWORDS
from vlm_jax.simulator.language import Statement, word, wordings, write_report
from vlm_jax.simulator.plan import Plan
from vlm_jax.simulator.stress import value_rates
from vlm_jax.simulator.workflow import other_side
from vlm_jax.simulator.worlds import Case, cases

Reading = tuple[int, str, str | None]
"""Surgeon, side and value that give a sentence its words."""
Wording = tuple[str, tuple[str, ...]]
"""A sentence and its references."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A sentence to come, the operation it tells of, and the sentence before it (None at the start)."""

    own: Plan
    statement: Statement
    before: Statement | None


def turns(config: SimulatorConfig, plan: Plan) -> list[Turn]:
    """All sentences of a procedure's report; every landmark that the plan has in view counts as seen."""
    dealt: list[Case] = cases(config, plan)
    report = write_report(config, plan, [frozenset(a.landmarks) for _, a in dealt], dealt)
    own = {activity.index: operation for operation, activity in dealt}
    before: list[Statement | None] = [None, *report]
    return [Turn(own[s.activity.index], s, b) for s, b in zip(report, before, strict=False)]


def readings(statement: Statement) -> list[Reading]:
    """Every way in which somebody could have worded this sentence, given its step code."""
    finding = KEYWORDS[statement.keyword][0].finding
    values = [None] if finding is None else list(FINDINGS[finding].values)
    return [
        (surgeon, side, value)
        for surgeon in range(anatomy.N_SURGEONS)
        for side in anatomy.SIDES
        for value in values
        if _sayable(statement.keyword, value) and word(statement.keyword, side, value, surgeon) == statement.text
    ]


def _sayable(code: str, value: str | None) -> bool:
    return value != EMPTY or bool(KEYWORDS[code][0].absent)


class Reports:
    """Forks of sentences, with what a sample of reports says of how sides follow one another."""

    def __init__(self, config: SimulatorConfig, sample: Sequence[Turn]) -> None:
        self._config = config
        stays: dict[str, Counter[bool]] = defaultdict(Counter)
        for turn in sample:
            if turn.before is not None:
                core = KEYWORDS[turn.statement.keyword][0].steps[0]
                stays[f"S{core}"][turn.before.activity.side == turn.statement.activity.side] += 1
        self._stays = {step: (n[True] + 1) / (n.total() + 2) for step, n in stays.items()}

    def fork(self, turn: Turn, image: bool, n: int, rng: np.random.Generator) -> list[Wording]:
        """`n` sentences that could stand here, given keyword, context and, with `image`, the frame."""
        before = readings(turn.before) if turn.before is not None else []
        if image and self._config.world != "reports_independent":
            shown = {k for k in range(anatomy.N_SURGEONS) if _centre(k) == turn.own.centre}
            before = [r for r in before if r[0] in shown]
            surgeons = sorted(shown)
        else:
            surgeons = list(range(anatomy.N_SURGEONS))
        return [self._draw(turn, image, before, surgeons, rng) for _ in range(n)]

    def fork_state(self, turn: Turn, n: int, rng: np.random.Generator) -> list[Wording]:
        """`n` sentences given the whole state, the patient of an independent report included: all is drawn already,
        but for which values are the scene's where only a share is."""
        if self._config.information == 1 or self._config.world == "reports_independent":
            return [(turn.statement.text, turn.statement.references)] * n
        code, side, surgeon = turn.statement.keyword, turn.statement.activity.side, turn.own.surgeon
        return [wordings(code, side, self._value(turn, side, True, None, rng), surgeon) for _ in range(n)]

    def _draw(
        self, turn: Turn, image: bool, before: list[Reading], surgeons: list[int], rng: np.random.Generator
    ) -> Wording:
        read = before[int(rng.integers(len(before)))] if before else None
        surgeon = read[0] if read is not None else surgeons[int(rng.integers(len(surgeons)))]
        side = self._side(turn, image, read, rng)
        return wordings(turn.statement.keyword, side, self._value(turn, side, image, read, rng), surgeon)

    def _side(self, turn: Turn, image: bool, read: Reading | None, rng: np.random.Generator) -> str:
        if image and self._config.world != "reports_independent":
            return turn.statement.activity.side
        if read is None:
            return str(rng.choice(anatomy.SIDES))
        step = f"S{KEYWORDS[turn.statement.keyword][0].steps[0]}"
        return read[1] if rng.random() < self._stays.get(step, 0.5) else other_side(read[1])

    def _value(self, turn: Turn, side: str, image: bool, read: Reading | None, rng: np.random.Generator) -> str | None:
        keyword = KEYWORDS[turn.statement.keyword][0]
        if keyword.finding is None:
            return None
        present = keyword.needs == "present"
        truth = turn.own.traits[turn.statement.activity.side, keyword.finding]
        seen = image and self._config.world != "reports_independent"
        if seen and (present or rng.random() < self._config.information):
            return truth
        if read is not None and turn.before is not None and self._config.information == 1:
            told = KEYWORDS[turn.before.keyword][0].finding
            if told == keyword.finding and read[1] == side:
                return read[2]
        rates = {v: p for v, p in value_rates(self._config, keyword.finding).items() if not (present and v == EMPTY)}
        weights = np.array(list(rates.values())) if sum(rates.values()) else np.ones(len(rates))
        return list(rates)[int(rng.choice(len(rates), p=weights / weights.sum()))]


def _centre(surgeon: int) -> int:
    return surgeon * anatomy.N_CENTRES // anatomy.N_SURGEONS
