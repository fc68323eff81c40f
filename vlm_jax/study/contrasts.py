"""The seven primary contrasts, one for each finding of the paper, with margins that were fixed beforehand.

docs/decisions/study-contrasts.md says why these, why these margins, and how the verdicts are reached. All else in the
table is descriptive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vlm_jax.evaluation.intervals import LEVEL, Samples
from vlm_jax.simulator.config import WORLDS
from vlm_jax.study.pool import GOLD, TRIVIAL_PREFIX
from vlm_jax.study.scores import VariantScores

ALPHA = 1 - LEVEL
ABOVE, BELOW, WITHIN, UNDECIDED, NOT_RUN = "above", "below", "within", "undecided", "not run"
ONE_SEED = "one seed"
"""No verdict on recipes: one training each, so that nothing is known of what another would score."""


@dataclass(frozen=True)
class Primary:
    """`first` - `second` on a metric of a task. Systems are named without their size (`base` is `base@tiny`, too)."""

    name: str
    finding: str
    first: str
    second: str
    task: str
    metric: str
    margin: float


PRIMARY = (
    Primary("classification", "the large model classifies better than the isolated classifier", "base", "landmark_cnn",
            "landmarks", "f1_macro", 0.02),
    Primary("report", "it writes better report sentences than the isolated keyword model", "base", "keyword_report",
            "report", "bleu2", 0.02),
    Primary("structured", "structured text gains little over the isolated transformer", "base",
            "navigation_transformer", "anticipate", "bleu2", 0.02),
    Primary("endovit", "EndoViT trails slightly in classification", "base", "endovit", "landmarks", "f1_macro", 0.02),
    Primary("surgical_gpt", "SurgicalGPT trails slightly in report sentences", "base", "surgical_gpt", "report",
            "bleu2", 0.02),
    Primary("vision", "vision helps the report", "base", "no_image", "report", "bleu2", 0.02),
    Primary("text", "text has limited effect on landmarks", "base", "no_text", "landmarks", "f1_macro", 0.02),
)  # fmt: skip

REMOVED = {
    WORLDS["reports_independent"]: ("vision",),
    WORLDS["previous_shuffled"]: ("text",),
    "information 0": ("text",),
}
"""Null world, as data sets call it -> contrasts whose information is not there: neither above nor below is right.

Without information every description is another operation's. Of reports something is left: findings that are there for
sure are told as they are, and the side is the true one.
"""


@dataclass(frozen=True)
class Contrast:
    """One primary contrast in one world.

    Attributes:
      interval: verdict of the 95 % interval against the margin.
      p, p_holm: of the verdict, before and after Holm's correction over the primaries of this world.
      verdict: the interval's, where p_holm stays under 0.05; else undecided. `one seed` where a system has but one: the
        interval then is of these two trained systems.
      removed: whether this world has no such effect to find.
      not_learned: {system: the trivial system of the task that it is below}, of the two compared. Such a contrast may
        say how fast a system learns and not what it sees: it has not learned what a look-up gives.
    """

    name: str
    finding: str
    world: str
    source: str
    first: str
    second: str
    task: str
    metric: str
    margin: float
    value: float | None
    low: float | None
    high: float | None
    interval: str
    p: float | None
    p_holm: float | None
    verdict: str
    removed: bool
    not_learned: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def contrasts_of(scores: VariantScores) -> list[Contrast]:
    """All primaries of one world, those that could not be computed as `not run`."""
    found = [(primary, *_compared(primary, scores)) for primary in PRIMARY]
    p_values = [p_value(samples, primary) if samples else None for primary, _, _, _, samples in found]
    adjusted = holm(p_values)
    return [
        _contrast(primary, scores, source, first, second, samples, p, p_holm)
        for (primary, source, first, second, samples), p, p_holm in zip(found, p_values, adjusted, strict=True)
    ]


def _contrast(
    primary: Primary,
    scores: VariantScores,
    source: str,
    first: str,
    second: str,
    samples: Samples | None,
    p: float | None,
    p_holm: float | None,
) -> Contrast:
    world = scores.variant.worlds.get(source, "")
    removed = any(primary.name in REMOVED.get(part, ()) for part in world.split(", "))
    about = (primary.name, primary.finding, world, source, first, second, primary.task, primary.metric, primary.margin)
    if samples is None:
        return Contrast(*about, None, None, None, NOT_RUN, None, None, NOT_RUN, removed, {})
    estimate = samples.estimate(primary.metric)
    interval = against(estimate.low, estimate.high, primary.margin)
    sure = p_holm is not None and p_holm < ALPHA
    alone = min(len(scores.pooled[name]) for name in (first, second)) < 2
    verdict = ONE_SEED if alone else interval if sure else UNDECIDED
    outdone = {name: better for name in (first, second) if (better := outdone_by(name, source, primary, scores))}
    return Contrast(*about, estimate.value, estimate.low, estimate.high, interval, p, p_holm, verdict, removed, outdone)


def _compared(primary: Primary, scores: VariantScores) -> tuple[str, str, str, Samples | None]:
    """(source, first, second, paired differences), on the first source that both systems were scored on."""
    names = {role: named(role, scores.pooled) for role in (primary.first, primary.second)}
    first, second = names[primary.first], names[primary.second]
    for source, task in scores.units:
        pair = [scores.samples.get((name, source, task, GOLD)) for name in (first, second)]
        if task == primary.task and pair[0] is not None and pair[1] is not None:
            difference = pair[0].column(primary.metric).minus(pair[1].column(primary.metric))
            return source, first, second, difference
    return next(iter(scores.variant.worlds), ""), first or primary.first, second or primary.second, None


def outdone_by(system: str, source: str, primary: Primary, scores: VariantScores) -> str:
    """The best trivial system, where `system` is below it by the interval of their difference; else an empty string.

    It is a fair one: what it looks up are the prompts, which every system compared on texts reads, or nothing at all.
    """
    found = {
        name: samples.column(primary.metric)
        for (name, *scope), samples in scores.samples.items()
        if scope == [source, primary.task, GOLD] and (name == system or name.startswith(TRIVIAL_PREFIX))
    }
    own = found.pop(system)
    defined = [name for name, samples in found.items() if not np.isnan(samples.get(primary.metric))]
    if not defined:
        return ""
    best = max(defined, key=lambda name: found[name].get(primary.metric))
    difference = own.minus(found[best]).estimate(primary.metric)
    return best if difference.high is not None and difference.high < 0 else ""


def named(role: str, shown: Mapping[str, Any]) -> str:
    """The system of the table that plays a role: `base@tiny` is base, `endovit_arch@tiny (random init)` endovit."""
    for name in shown:
        bare = name.split(" ")[0].partition("@")[0]
        if role in (bare, bare.removesuffix("_arch")):
            return name
    return ""


def against(low: float | None, high: float | None, margin: float) -> str:
    """above: the whole interval beyond the margin; below: beyond it on the other side; within: inside both."""
    if low is None or high is None:
        return UNDECIDED
    if low > margin:
        return ABOVE
    if high < -margin:
        return BELOW
    return WITHIN if -margin <= low and high <= margin else UNDECIDED


def p_value(samples: Samples, primary: Primary) -> float | None:
    """The smallest two-sided level at which some verdict could be given: the interval, inverted.

    above: 2 P(difference <= margin); below: 2 P(difference >= -margin); within: twice the larger tail beyond a margin.
    At most one of the three can be small.
    """
    at_high, at_low = samples.tail(primary.metric, primary.margin), samples.tail(primary.metric, -primary.margin)
    if at_high is None or at_low is None:
        return None
    return min(1.0, 2 * min(at_high, 1 - at_low, max(at_low, 1 - at_high)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) step-down adjustment over all of them; what was not run counts as a test that failed (p = 1)."""
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(sorted((p, i) for i, p in enumerate(p_values) if p is not None)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p))
        adjusted[i] = highest
    return adjusted
