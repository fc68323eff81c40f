"""Whether a generated sentence is true: what it says against what the reference says, and against the scene.

Both sentences are read by the same rules (`facts`). A fact is a pair of attribute and name; precision and recall count
facts, contradictions and omissions count units. It measures agreement of what the rules can read, no more: see
docs/results/factuality.md for how well they read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from vlm_jax.metrics.facts import ATTRIBUTES, EXCLUSIVE, Facts, canonical, facts_of

COUNTS = ("predicted", "reference", "matched", "contradicted", "omitted")
"""Of one attribute of one unit: facts stated, facts of the reference, facts in both, whether the unit contradicts the
reference here, and whether it leaves out a fact that it does not contradict."""


def contradictions(said: Facts, true: Facts) -> dict[str, bool]:
    """{attribute: whether the two sentences cannot both be true there}.

    Sides and status contradict where both sentences have some and share none; a denial, where the other sentence
    affirms the same; findings, where they hold different values of one group. Naming other structures or another action
    is no contradiction: both may be true.
    """
    values = [(said.finding & group, true.finding & group) for group in EXCLUSIVE]
    return {
        "laterality": bool(said.laterality and true.laterality) and not said.laterality & true.laterality,
        "status": bool(said.status and true.status) and not said.status & true.status,
        "negation": bool(said.negation & true.said or true.negation & said.said),
        "finding": any(a and b and not a & b for a, b in values),
    }


def unit_counts(said: Facts, true: Facts) -> np.ndarray:
    """float64[len(ATTRIBUTES) + 1, 5] of one unit, see `COUNTS`; the last row is of all attributes together."""
    against = contradictions(said, true)
    rows = []
    for name in ATTRIBUTES:
        a, b = getattr(said, name), getattr(true, name)
        against_here = against.get(name, False)
        rows.append((len(a), len(b), len(a & b), against_here, bool(b - a) and not against_here))
    table = np.array(rows, np.float64)
    total = table.sum(axis=0)
    total[3:] = total[3:] > 0
    return np.vstack([table, total])


def fact_counts(prediction: str, references: Sequence[str], labels: tuple[str, ...] = ()) -> np.ndarray:
    """`unit_counts` against the reference that the prediction agrees with best: fewest contradictions, then F1."""
    said = facts_of(prediction, labels)
    return max((unit_counts(said, facts_of(r, labels)) for r in references), key=_agreement)


def _agreement(table: np.ndarray) -> tuple[float, float]:
    predicted, reference, matched, contradicted, _ = table[-1]
    return -contradicted, 2 * matched / max(predicted + reference, 1.0)


def scene_counts(
    prediction: str, landmarks: Collection[str], sides: Collection[str], labels: tuple[str, ...] = ()
) -> np.ndarray:
    """float64[2, 5]: the structures and the sides that a sentence names, against what is in view.

    Args:
      prediction: a sentence that says what is in view.
      landmarks: names of the structures in view, in the data set's words.
      sides: of left and right; empty where it is not known, then the sentence's sides are not judged.
      labels: the data set's names of all its structures; others that a sentence names are not judged.
    """
    said = facts_of(prediction, labels)
    judged = {canonical(name, labels) for name in labels}
    stated, seen = said.landmark & judged, {canonical(name, labels) for name in landmarks}
    here = said.laterality if sides else frozenset()
    wrong_side = bool(here and not here & set(sides))
    return np.array(
        [
            (len(stated), len(seen), len(stated & seen), bool(stated - seen), bool(seen - stated)),
            (len(here), len(sides), len(here & set(sides)), wrong_side, bool(sides) and not here),
        ],
        np.float64,
    )


def fact_scores(table: np.ndarray, units: np.ndarray | float) -> np.ndarray:
    """float[..., 5]: precision, recall, F1, contradictions and omissions from summed counts float[..., 5].

    The first three are nan where nothing was stated or nothing was true; the last two are shares of `units`.
    """
    predicted, reference, matched, contradicted, omitted = np.moveaxis(np.asarray(table, float), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        out = [
            np.where(predicted > 0, matched / predicted, np.nan),
            np.where(reference > 0, matched / reference, np.nan),
            np.where(predicted + reference > 0, 2 * matched / (predicted + reference), np.nan),
            contradicted / units,
            omitted / units,
        ]
    return np.stack([np.where(np.asarray(units) > 0, column, np.nan) for column in out], axis=-1)


SCORES = ("precision", "recall", "f1", "contradictions", "omissions")


@dataclass(frozen=True)
class FactState:
    """What units (one sentence each) come to when scored as they pass: a value that merges, as clu.metrics' do.

    Plain numpy, on the host. `evaluation` sums the same counts by group instead, for it needs resamples.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros((len(ATTRIBUTES) + 1, len(COUNTS))))
    units: int = 0

    @classmethod
    def from_texts(
        cls, predictions: Sequence[str], references: Sequence[Sequence[str]], labels: tuple[str, ...] = ()
    ) -> FactState:
        """One prediction and at least one reference a unit."""
        state = cls()
        for prediction, some in zip(predictions, references, strict=True):
            state |= cls(fact_counts(prediction, some, labels), 1)
        return state

    def merge(self, other: FactState) -> FactState:
        return FactState(self.counts + other.counts, self.units + other.units)

    __or__ = merge

    def compute(self) -> dict[str, float]:
        """`precision`, ..., `<attribute>/precision`, ...; nan where undefined."""
        table = fact_scores(self.counts, float(self.units))
        rows = (*(f"{name}/" for name in ATTRIBUTES), "")
        return {f"{row}{score}": float(table[i, j]) for i, row in enumerate(rows) for j, score in enumerate(SCORES)}
