"""From answers to the flat metrics: each score with its interval, beside the trivial ones on the same units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlm_jax.contract import TEXT_TASKS, LabelSpace, Record
from vlm_jax.evaluation.answers import Answers
from vlm_jax.evaluation.fact_scores import WITHIN, fact_samples, judged, scene_samples
from vlm_jax.evaluation.intervals import Estimate, Groups, Samples
from vlm_jax.evaluation.label_scores import AVERAGES, LabelUnits, Support, label_samples
from vlm_jax.evaluation.place_scores import IN_MASK, PlaceUnits, place_samples
from vlm_jax.evaluation.text_scores import TextUnits, shuffled_samples, text_samples
from vlm_jax.evaluation.trivial import trivial_labels, trivial_texts
from vlm_jax.evaluation.units import UNIT_NAMES, Unit, as_scored, references
from vlm_jax.metrics.similarity import Similarity

Metrics = dict[str, dict[str, Any]]
GAINS = (*AVERAGES, "f1_macro_two_sided", "map", "map_two_sided")
"""Label metrics for which the paired difference to the best trivial score is given; of text metrics, all."""


@dataclass(frozen=True)
class Scope:
    """One task of one source: where its metrics go, and what is true of all of them."""

    source: str
    task: str
    world: str
    n_units: int
    n_groups: int
    group_level: str
    classes: Mapping[str, Support] = field(default_factory=dict)
    simulator: str = ""

    def entry(self, estimate: Estimate, name: str = "") -> dict[str, Any]:
        """What stands under metric `name`; one of a class counts the units and groups in which it is known."""
        about = self.classes.get(name.removeprefix("class/").rsplit("/", 1)[0]) if name.startswith("class/") else None
        given = about is None or about.enough
        return {
            "value": estimate.value,
            "low": estimate.low if given else None,
            "high": estimate.high if given else None,
            "n_units": self.n_units if about is None else about.units,
            "n_groups": self.n_groups if about is None else about.groups,
            "group_level": self.group_level,
            "unit": UNIT_NAMES[self.task],
            "world": self.world,
            **({"simulator": self.simulator} if self.simulator else {}),
        }

    def entries(self, samples: Samples, names: Iterable[str] | None = None, within: str = "") -> Metrics:
        """Metrics under `<source>/<task>/[within/]`; all of the samples', or those named."""
        prefix = f"{self.source}/{self.task}/" + (f"{within}/" if within else "")
        return {prefix + n: self.entry(samples.estimate(n), n) for n in (samples.names if names is None else names)}


@dataclass(frozen=True)
class Scorer:
    """What all tasks and sources share.

    Attributes:
      labels: names of the columns of all probabilities.
      names: {source: label names in the order of its records}.
      thresholds: by scoped label name.
      training: one record a unit of the training split, by task; what trivial systems are fitted on.
      label_counts: int[C] positives and negatives in training.
      worlds: {source: real, simulated, or simulated with what sets it apart}.
      simulators: {source: version and hash of its simulator, "" for none}.
      group_levels: {source: patient, procedure or sequence}, what intervals are resampled by.
    """

    labels: LabelSpace
    names: Mapping[str, tuple[str, ...]]
    thresholds: Mapping[str, float | None]
    training: Mapping[str, Sequence[Record]]
    label_counts: tuple[np.ndarray, np.ndarray]
    worlds: Mapping[str, str]
    group_levels: Mapping[str, str]
    similarities: tuple[Similarity, ...] = ()
    resamples: int = 1000
    seed: int = 0
    simulators: Mapping[str, str] = field(default_factory=dict)
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)

    def score(self, units: Mapping[str, Sequence[Unit]], answers: Mapping[str, Answers]) -> Metrics:
        """All metrics. `answers` by context, gold first; units that could not be answered are left out."""
        metrics: Metrics = {}
        for source in dict.fromkeys(u.record.source for some in units.values() for u in some):
            frames = [u for u in units["landmarks"] if u.record.source == source]
            frames = [u for u in frames if u.row in answers["gold"].probabilities]
            if frames and len(self.labels.slots(source)):
                metrics |= self._landmarks(source, frames, answers)
                metrics |= self._places(source, frames, answers["gold"])
            for task in TEXT_TASKS:
                chosen = [u for u in units[task] if u.record.source == source and u.row in answers["gold"].texts[task]]
                if chosen:
                    metrics |= self._sentences(source, task, chosen, answers)
        return metrics

    def _scope(
        self, source: str, task: str, n_units: int, groups: Groups, classes: Mapping[str, Support] | None = None
    ) -> Scope:
        world, level = self.worlds[source], self.group_levels[source]
        simulator = self.simulators.get(source, "")
        return Scope(source, task, world, n_units, len(groups), level, classes or {}, simulator)

    # --- Landmarks --------------------------------------------------------------------------------------------------

    def _landmarks(self, source: str, frames: Sequence[Unit], answers: Mapping[str, Answers]) -> Metrics:
        slots, rows, gold = self.labels.slots(source), [u.row for u in frames], answers["gold"]
        names = tuple(self.labels.names[c].split("/", 1)[1] for c in slots)
        present, known = (np.stack([of[r] for r in rows])[:, slots] for of in (gold.truth, gold.known))
        truth = LabelUnits(names, present, known, Groups.build([u.record.group for u in frames]))
        thresholds = [self.thresholds.get(self.labels.names[c]) for c in slots]
        scope = self._scope(source, "landmarks", len(frames), truth.groups, truth.support)
        metrics: Metrics = {}
        own: Samples | None = None
        for context, answer in answers.items():
            if rows[0] not in answer.probabilities:  # nothing to roll out
                continue
            score = np.stack([answer.probabilities[r] for r in rows])[:, slots]
            samples = self._label_samples(truth, score, thresholds)
            if context == "gold":
                own = samples
                metrics |= scope.entries(samples)
                self.curves[source] = _curves(truth, score)
            else:
                metrics |= scope.entries(samples, GAINS, f"context/{context}")
        trivial: dict[str, Samples] = {}
        positives, negatives = (counts[slots] for counts in self.label_counts)
        for name, score in trivial_labels(positives, negatives, len(frames)).items():
            trivial[name] = self._label_samples(truth, score, [0.5] * len(names))
            metrics |= scope.entries(trivial[name], within=f"trivial/{name}")
        assert own is not None
        metrics |= _gains(scope, own, trivial, GAINS)
        return metrics | _about(scope, truth, thresholds)

    def _places(self, source: str, frames: Sequence[Unit], gold: Answers) -> Metrics:
        """Where landmarks are; nothing without masks or without places. The constant answer, and the gain over it, are
        of the landmarks that training frames with masks know."""
        found = [u for u in frames if u.row in gold.places]
        if not found:
            return {}
        slots = self.labels.slots(source)
        names = tuple(self.labels.names[c].split("/", 1)[1] for c in slots)
        known = np.stack([gold.known[u.row] for u in found])[:, slots]
        groups = Groups.build([u.record.group for u in found])
        compared = np.stack([gold.places[u.row] for u in found])[..., slots]
        support = LabelUnits(names, compared[:, 0, IN_MASK] > 0, known, groups).support
        scope = self._scope(source, "places", len(found), groups, support)
        options = {"resamples": self.resamples, "seed": self.seed}
        metrics = scope.entries(place_samples(PlaceUnits(names, known, groups), compared[:, 0], **options))
        usual = np.zeros(len(slots), bool) if gold.constant is None else gold.constant[slots]
        if not usual.any():
            return metrics
        shared = PlaceUnits(names, known & usual, groups)
        own, constant = (place_samples(shared, compared[:, i], **options) for i in (0, 1))
        metrics |= scope.entries(constant, within="trivial/constant")
        return metrics | _gains(scope, own, {"constant": constant}, ("iou", "iou_soft"))

    def _label_samples(self, units: LabelUnits, score: np.ndarray, thresholds: Sequence[float | None]) -> Samples:
        return label_samples(units, score, thresholds, resamples=self.resamples, seed=self.seed)

    # --- Sentences --------------------------------------------------------------------------------------------------

    def _sentences(self, source: str, task: str, units: Sequence[Unit], answers: Mapping[str, Answers]) -> Metrics:
        truth = TextUnits(
            tuple(references(task, u.record) for u in units),
            Groups.build([u.record.group for u in units]),
            self.similarities,
        )
        scope = self._scope(source, task, len(units), truth.groups)
        metrics: Metrics = {}
        own: Samples | None = None
        for context, answer in answers.items():
            if units[0].row not in answer.texts[task]:  # nothing to roll out
                continue
            written = [as_scored(answer.texts[task].get(u.row, "")) for u in units]
            samples = self._text_samples(truth, written)
            metrics |= scope.entries(samples, within="" if context == "gold" else f"context/{context}")
            metrics |= self._facts(scope, truth, units, written, "" if context == "gold" else f"context/{context}/")
            own = samples if context == "gold" else own
        assert own is not None
        trivial: dict[str, Samples] = {}
        records = [u.record for u in units]
        same = [r for r in self.training.get(task, ()) if r.source == source]
        for name, answer_fn in trivial_texts(task, same).items():
            answers_of = answer_fn(records)
            trivial[name] = self._text_samples(truth, answers_of)
            metrics |= self._facts(scope, truth, units, answers_of, f"trivial/{name}/")
            metrics |= scope.entries(trivial[name], within=f"trivial/{name}")
        metrics |= _gains(scope, own, trivial, own.names)
        if self.similarities and len(units) > 1:
            written = [as_scored(answers["gold"].texts[task][u.row]) for u in units]
            floor = shuffled_samples(truth, written, resamples=self.resamples, seed=self.seed)
            metrics |= scope.entries(floor, within="trivial/shuffled")
        return metrics

    def _facts(
        self, scope: Scope, truth: TextUnits, units: Sequence[Unit], written: Sequence[str], within: str
    ) -> Metrics:
        """Factuality against the references; of descriptions, against the scene, too."""
        names = self.names[scope.source]
        options = {"resamples": self.resamples, "seed": self.seed}
        metrics = scope.entries(
            fact_samples(written, truth.references, truth.groups, names, **options), within=within + WITHIN
        )
        known = [i for i, u in enumerate(units) if judged(u.record)]
        if scope.task == "describe" and known:
            records, said = [units[i].record for i in known], [written[i] for i in known]
            groups = Groups.build([record.group for record in records])
            about = self._scope(scope.source, scope.task, len(known), groups)
            metrics |= about.entries(scene_samples(said, records, groups, names, **options), within=within + WITHIN)
        return metrics

    def _text_samples(self, units: TextUnits, predictions: Sequence[str]) -> Samples:
        return text_samples(units, predictions, resamples=self.resamples, seed=self.seed)


def _gains(scope: Scope, own: Samples, trivial: Mapping[str, Samples], names: Sequence[str]) -> Metrics:
    """`gain/<metric>`: the paired difference to the trivial system that is best at it on the split, which is named.

    An interval that excludes 0 excludes the trivial score.
    """
    metrics: Metrics = {}
    for name in names:
        rivals = {k: s for k, s in trivial.items() if not np.isnan(s.get(name))}
        if not rivals:
            continue
        best = max(rivals, key=lambda k: rivals[k].get(name))
        difference = own.column(name).minus(rivals[best].column(name))
        key = f"{scope.source}/{scope.task}/gain/{name}"
        metrics[key] = {**scope.entry(difference.estimate(name)), "over": best}
    return metrics


def _about(scope: Scope, truth: LabelUnits, thresholds: Sequence[float | None]) -> Metrics:
    """Prevalence and threshold of each class, and the classes on which nobody is scored."""
    prefix = f"{scope.source}/landmarks/"
    metrics: Metrics = {}
    for name, share, threshold in zip(truth.names, truth.prevalence, thresholds, strict=True):
        value = None if np.isnan(share) else float(share)
        for what, number in (("prevalence", value), ("threshold", threshold)):
            metrics[f"{prefix}class/{name}/{what}"] = scope.entry(Estimate(number), f"class/{name}/{what}")
    undefined = truth.undefined
    metrics[f"{prefix}undefined_classes"] = {**scope.entry(Estimate(float(len(undefined)))), "names": list(undefined)}
    return metrics


def _curves(truth: LabelUnits, score: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{class: (score, truth) of its known frames} of the defined classes, for the report's curves."""
    return {
        name: (score[truth.known[:, c], c], truth.truth[truth.known[:, c], c])
        for c, name in enumerate(truth.names)
        if name not in truth.undefined
    }
