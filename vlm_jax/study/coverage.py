"""How often an interval holds the truth: simulated against fresh procedures, for few and for more of them.

A population of procedures is drawn once, with classes of three frequencies and sentences, each procedure with its own
prevalence, its own difficulty and its own number of units. The truth is the metric on the whole population. A study is
a draw of G procedures from it; its interval covers, or it does not. Nominal is 0.95.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlm_jax.evaluation.intervals import LEVEL, Groups, Samples
from vlm_jax.evaluation.label_scores import LabelUnits, decided_samples
from vlm_jax.metrics.generation import BLEU_COUNTS, bleu2

FREQUENCIES = {"common": 0.3, "uncommon": 0.08, "rare": 0.02}
"""Class -> share of frames, in the mean over procedures."""
COUNTS = (6, 12, 30)
"""Procedures of a study."""
POPULATION = 1500
UNITS = 40
"""Mean units of a procedure."""
RESAMPLES = 500
SPREAD = 1.0
"""Standard deviation over procedures of the log-odds of a class, and half of it of a classifier's shift."""
_TAIL = (1 - LEVEL) / 2


@dataclass(frozen=True)
class World:
    """All procedures: labels and scores of two classifiers by unit, counts of two writers by procedure.

    Attributes:
      truth: bool[U, 3]. scores: float[2, U, 3]. owner: int[U].
      texts: float[2, P, 9]: six counts of BLEU, then sums of ROUGE-L and exact, then sentences.
    """

    truth: np.ndarray
    scores: np.ndarray
    owner: np.ndarray
    texts: np.ndarray


def make_world(seed: int, population: int = POPULATION) -> World:
    """Draws the population."""
    random = np.random.default_rng(seed)
    sizes = 5 + random.poisson(UNITS - 5, population)
    owner = np.repeat(np.arange(population), sizes)
    base = np.array(list(FREQUENCIES.values()))
    odds = np.log(base / (1 - base)) + SPREAD * random.standard_normal((population, len(base)))
    truth = random.random((len(owner), len(base))) < 1 / (1 + np.exp(-odds[owner]))
    shift = 0.5 * SPREAD * random.standard_normal((population, len(base)))
    noise = random.standard_normal((2, len(owner), len(base)))
    signal = np.array([2.2, 1.8])[:, None, None] * truth + shift[owner] + noise
    scores = 1 / (1 + np.exp(-(signal - 1.6)))
    return World(truth, scores, owner, _texts(random, population))


def _texts(random: np.random.Generator, population: int) -> np.ndarray:
    """Two writers; how many words a sentence gets right varies by procedure, and together for both."""
    sentences = 10 + random.poisson(15, population)
    skill = 0.35 * random.standard_normal(population)
    out = np.zeros((2, population, BLEU_COUNTS + 3))
    for writer, level in enumerate((0.6, 0.4)):
        share = 1 / (1 + np.exp(-(np.log(level / (1 - level)) + skill + 0.2 * random.standard_normal(population))))
        words = 8 * sentences
        hits, pairs = random.binomial(words, share), random.binomial(words - sentences, share**1.6)
        columns = [words, words, hits, pairs, words, words - sentences]
        exact = random.binomial(sentences, share**4)
        out[writer] = np.stack([*columns, share * sentences, exact, sentences], axis=1)
    return out


Metric = tuple[str, str]
"""(metric, class frequency or `all`)."""


def label_metrics(world: World, chosen: np.ndarray, **how: Any) -> dict[Metric, Samples]:
    """Samples of the metrics of classifier 0 on some procedures, and of its macro-F1 less that of classifier 1."""
    place = np.full(world.owner.max() + 1, -1)
    place[chosen] = np.arange(len(chosen))
    rows = np.flatnonzero(place[world.owner] >= 0)
    names = [f"{i:05d}" for i in place[world.owner[rows]]]
    units = LabelUnits(tuple(FREQUENCIES), world.truth[rows], np.ones((len(rows), 3), bool), Groups.build(names))
    both = [decided_samples(units, score, score >= 0.5, **how) for score in world.scores[:, rows]]
    first, second = both
    out = {("f1", name): first.column(f"class/{name}/f1") for name in FREQUENCIES}
    out |= {("average precision", name): first.column(f"class/{name}/ap") for name in FREQUENCIES}
    # As in the study's tables: none of a class that is present in few groups.
    out = {key: samples if units.support[key[1]].enough else samples.bare() for key, samples in out.items()}
    out |= {(metric, "all"): first.column(metric) for metric in ("f1_macro", "f1_micro", "map")}
    out["difference of f1_macro", "all"] = first.column("f1_macro").minus(second.column("f1_macro"))
    return out


def text_metrics(world: World, chosen: np.ndarray, **how: Any) -> dict[Metric, Samples]:
    """The same of sentences."""
    first, second = (_text_samples(world.texts[writer][chosen], **how) for writer in (0, 1))
    out = {(metric, "all"): first.column(metric) for metric in ("bleu2", "rouge_l", "exact")}
    out["difference of bleu2", "all"] = first.column("bleu2").minus(second.column("bleu2"))
    return out


def _text_samples(sums: np.ndarray, **how: Any) -> Samples:
    def fn(weights: np.ndarray) -> np.ndarray:
        total = weights @ sums
        means = total[:, BLEU_COUNTS:-1] / total[:, -1:]
        return np.concatenate([bleu2(total[:, :BLEU_COUNTS])[:, None], means], axis=1)

    return Samples.draw(("bleu2", "rouge_l", "exact"), fn, len(sums), **how)


def intervals(samples: Samples) -> dict[str, tuple[float, float] | None]:
    """The interval of one metric by each method that needs no second level of resampling."""
    [name] = samples.names
    bca = samples.estimate(name)
    boot = samples.boot[~np.isnan(samples.boot[:, 0]), 0]
    if bca.low is None or bca.high is None or len(boot) < 2:
        return {"bca": None, "percentile": None}
    low, high = np.quantile(boot, [_TAIL, 1 - _TAIL])
    return {"bca": (bca.low, bca.high), "percentile": (float(low), float(high))}


def simulate_coverage(repeats: int, seed: int = 0, say: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """One row a metric, class frequency, number of procedures and method.

    Returns:
      [{metric, frequency, procedures, method, coverage, given, width, repeats}]: `given` is the share of draws in which
      a study would give an interval (it gives none of a class that is present in few groups); coverage and mean width
      are of those.
    """
    world = make_world(seed)
    everyone = np.arange(POPULATION)
    truths = {m: float(s.value[0]) for m, s in _metrics(world, everyone, resamples=0)}
    random = np.random.default_rng(seed + 1)
    tally: dict[tuple[Metric, int, str], list[tuple[bool, float] | None]] = {}
    for count in COUNTS:
        for repeat in range(repeats):
            chosen = random.choice(POPULATION, count, replace=False)
            for metric, samples in _metrics(world, chosen, resamples=RESAMPLES, seed=repeat):
                for method, bounds in intervals(samples).items():
                    hit = None if bounds is None else (bounds[0] <= truths[metric] <= bounds[1], bounds[1] - bounds[0])
                    tally.setdefault((metric, count, method), []).append(hit)
        if say:
            say(f"coverage with {count} procedures: {repeats} draws")
    return [_row(*key, hits) for key, hits in tally.items()]


def _metrics(world: World, chosen: np.ndarray, **how: Any) -> Iterator[tuple[Metric, Samples]]:
    yield from label_metrics(world, chosen, **how).items()
    yield from text_metrics(world, chosen, **how).items()


def _row(metric: Metric, count: int, method: str, hits: list[tuple[bool, float] | None]) -> dict[str, Any]:
    given = [hit for hit in hits if hit is not None]
    return {
        "metric": metric[0],
        "frequency": metric[1],
        "procedures": count,
        "method": method,
        "coverage": float(np.mean([hit for hit, _ in given])) if given else None,
        "given": len(given) / len(hits),
        "width": float(np.mean([width for _, width in given])) if given else None,
        "repeats": len(hits),
    }
