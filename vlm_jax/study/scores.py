"""The rows of the table: every system x task x metric x context, pooled, with intervals over whole groups."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlm_jax.contract import TASKS
from vlm_jax.data.run_data import RunData
from vlm_jax.evaluation.fact_scores import WITHIN as FACTS
from vlm_jax.evaluation.fact_scores import fact_samples
from vlm_jax.evaluation.intervals import Groups, Samples
from vlm_jax.evaluation.label_scores import LabelUnits, decided_samples
from vlm_jax.evaluation.run import METRICS
from vlm_jax.evaluation.scoring import GAINS, Scope
from vlm_jax.evaluation.text_scores import column_samples, dealings, floor, mean_samples, unit_columns
from vlm_jax.evaluation.units import END_WORD, UNIT_NAMES
from vlm_jax.metrics.similarity import Similarity, TfidfSimilarity, minilm
from vlm_jax.study.ceilings import read_ceilings
from vlm_jax.study.notices import notices_of
from vlm_jax.study.plan import Plan
from vlm_jax.study.pool import GOLD, TRIVIAL_PREFIX, FrameAnswers, Pooled, TextAnswers, common_units, pooled_systems
from vlm_jax.study.untrained import open_fold
from vlm_jax.study.variants import Variant

SEED = 0
"""Of the resamples, the same for every system: differences are paired."""
SHUFFLED, DEALS = "shuffled", 5
"""Of the cosines' floors: where they stand, and how often sentences are dealt."""
DATA = "data"
"""The `system` of rows that are true of the data alone (prevalence)."""
LEAST = {"cosine_minilm": -1.0}
"""What a score can be at least, where that is not 0; at most all are 1. Student's t over few seeds knows no bounds."""
COLUMNS = (
    "system", "source", "task", "metric", "context", "world", "init", "value", "low", "high", "ceiling_state",
    "ceiling_inputs", "unit", "n_units", "n_groups",
)  # fmt: skip

Row = dict[str, Any]


@dataclass
class VariantScores:
    """One world, scored.

    Attributes:
      rows: of the table.
      samples: {(system, source, task, context): metrics with resamples}, for contrasts.
      pooled: {system: one `Pooled` a seed}, for figures.
      units: {(source, task): keys in order}.
      notes: {(source, task): what is missing in the table and why, a sentence each}.
      notices: what a reader must know of the data and the runs, a sentence each.
    """

    variant: Variant
    rows: list[Row] = field(default_factory=list)
    samples: dict[tuple[str, str, str, str], Samples] = field(default_factory=dict)
    pooled: dict[str, list[Pooled]] = field(default_factory=dict)
    inits: dict[str, str] = field(default_factory=dict)
    units: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    notes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


def score_variant(plan: Plan, variant: Variant) -> VariantScores:
    """Scores all systems of a variant on the same units.

    A unit is scored where every trained system that has the task has answered it (all do, but for broken records).
    """
    found = VariantScores(variant, notices=notices_of(plan, variant))
    for name, init, seeds in pooled_systems(plan, variant):
        found.pooled[name], found.inits[name] = seeds, init
    found.units, found.notes = common_units(found.pooled)
    scorer = _Scorer(plan, variant, found)
    for name, seeds in found.pooled.items():
        for scope in seeds[0]:
            scorer.score(name, scope, [pooled[scope] for pooled in seeds])
    scorer.prevalence()
    scorer.others()
    found.notices += scorer.unanswered()
    return found


class _Scorer:
    def __init__(self, plan: Plan, variant: Variant, found: VariantScores) -> None:
        self.plan, self.variant, self.found = plan, variant, found
        self.resamples = plan.study.bootstrap
        self.ceilings = read_ceilings(variant.paths)
        self._similarities: dict[int, tuple[Similarity, ...]] = {}
        self._minilm = minilm()
        self._truth = {scope: self._first(scope) for scope in found.units}
        self._unanswered: dict[tuple[str, str, str], list[str]] = {}

    def _first(self, scope: tuple[str, str]) -> Any:
        """What is true is read from a trained system: a trivial one has not seen which labels a run uses."""
        names = sorted(self.found.pooled, key=lambda name: name.startswith(TRIVIAL_PREFIX))
        return next(self.found.pooled[n][0][scope] for n in names if scope in self.found.pooled[n][0])

    # --- Systems ----------------------------------------------------------------------------------------------------

    def score(self, name: str, scope: tuple[str, str], seeds: Sequence[Any]) -> None:
        """Rows of one system on one task of one source, in every context that it answers in."""
        scored = (self._frames if scope[1] == "landmarks" else self._texts)(name, scope, seeds)
        for context, several in scored.items():
            samples = Samples.mean(several, name)
            self.found.samples[name, *scope, context] = samples
            shown = samples.names if context == GOLD or scope[1] != "landmarks" else GAINS
            about = self._scope(scope)
            for metric in shown:
                possible = samples.estimate(metric).within(LEAST.get(metric.rpartition("/")[2], 0.0), 1.0)
                entry = about.entry(possible, metric)
                self._add(name, scope, metric, context, entry)

    def label_units(self, scope: tuple[str, str]) -> LabelUnits:
        """What is true of the frames of a source."""
        truth: FrameAnswers = self._truth[scope]
        rows = [truth.units[key] for key in self.found.units[scope]]
        groups, truths, known, folds = zip(*rows, strict=True)
        return LabelUnits(truth.classes, np.stack(truths), np.stack(known), Groups.build(groups), np.array(folds))

    def _frames(self, name: str, scope: tuple[str, str], seeds: Sequence[FrameAnswers]) -> dict[str, list[Samples]]:
        units, keys = self.label_units(scope), self.found.units[scope]
        out = {}
        for context in self._contexts(name, scope, [of.scores for of in seeds]):
            several = []
            for answers in seeds:
                score, chosen = (
                    np.stack([of[context][key] for key in keys]) for of in (answers.scores, answers.chosen)
                )
                several.append(decided_samples(units, score, chosen, resamples=self.resamples, seed=SEED))
            out[context] = several
        return out

    def _texts(self, name: str, scope: tuple[str, str], seeds: Sequence[TextAnswers]) -> dict[str, list[Samples]]:
        keys = self.found.units[scope]
        units = [self._truth[scope].units[key] for key in keys]
        groups = Groups.build([group for group, _, _ in units])
        out = {}
        for context in self._contexts(name, scope, [of.texts for of in seeds]):
            several = []
            for answers in seeds:
                written = [answers.texts[context][key] for key in keys]
                names, columns = self._columns(units, written)
                found = column_samples(names, columns, groups, resamples=self.resamples, seed=SEED)
                if context == GOLD:
                    found = self._with_facts(found, scope, units, written, groups)
                if context == GOLD and not name.startswith(TRIVIAL_PREFIX):
                    found = self._with_floors(found, units, written, groups)
                several.append(found)
            out[context] = several
        return out

    def _with_facts(
        self, found: Samples, scope: tuple[str, str], units: Sequence[Any], written: Sequence[str], groups: Groups
    ) -> Samples:
        """The same with the factuality of the sentences against their references."""
        truth = self._truth.get((scope[0], "landmarks"))
        labels = truth.classes if truth else ()
        references = [of[1] for of in units]
        facts = fact_samples(written, references, groups, labels, resamples=self.resamples, seed=SEED)
        return found.beside(facts, FACTS)

    def _with_floors(self, found: Samples, units: Sequence[Any], written: Sequence[str], groups: Groups) -> Samples:
        """The same with the floor of every cosine: the sentences dealt to wrong units, of any fold."""
        folds = np.array([fold for _, _, fold in units])
        names = [s.name for s in self.similarities(int(folds[0]))]
        if not names or len(units) < 2:
            return found
        dealt = dealings(written, DEALS, SEED)
        columns = np.zeros((len(units), len(names)))
        for fold in np.unique(folds).tolist():
            rows = np.flatnonzero(folds == fold).tolist()
            here, references = [[texts[i] for i in rows] for texts in dealt], [units[i][1] for i in rows]
            for j, similarity in enumerate(self.similarities(fold)):
                columns[rows, j] = floor(similarity, here, references)
        return found.beside(mean_samples(names, columns, groups, resamples=self.resamples, seed=SEED), SHUFFLED)

    def _contexts(self, name: str, scope: tuple[str, str], seeds: Sequence[Mapping[str, Any]]) -> list[str]:
        """Those in which every seed has answered every unit: where nothing is described there is nothing to roll out;
        which others there are is kept for `unanswered`."""
        found, keys = [], self.found.units[scope]
        for context in seeds[0]:
            if all(context in of and all(key in of[context] for key in keys) for of in seeds):
                found.append(context)
            else:
                self._unanswered.setdefault((*scope, context), []).append(name)
        return found

    def unanswered(self) -> list[str]:
        """A sentence on each context in which systems have not answered every unit of a task, and have no scores."""
        return [
            f"{source}, {task}, {context.replace('_', ' ')}: no score of {', '.join(names)}: not all units are answered"
            for (source, task, context), names in self._unanswered.items()
        ]

    def _columns(self, units: Sequence[Any], texts: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
        """Fold by fold, for tf-idf is fitted on each fold's training texts."""
        folds = np.array([fold for _, _, fold in units])
        parts: dict[int, np.ndarray] = {}
        for fold in np.unique(folds).tolist():
            rows = np.flatnonzero(folds == fold).tolist()
            references = [units[i][1] for i in rows]
            parts[fold] = unit_columns(references, [texts[i] for i in rows], self.similarities(fold))
        columns = np.zeros((len(units), next(iter(parts.values())).shape[1]))
        for fold, part in parts.items():
            columns[folds == fold] = part
        names = ("bleu2", "rouge_l", "exact", *(s.name for s in self.similarities(int(folds[0]))))
        return names, columns

    def similarities(self, fold: int) -> tuple[Similarity, ...]:
        """tf-idf of a fold's training texts, and MiniLM where it is installed."""
        if fold not in self._similarities:
            system = self.plan.systems[-1]
            data: RunData = open_fold(self.plan.job(self.variant, system, fold, self.plan.study.seeds[0]))
            texts = data.train_texts()
            fitted = (TfidfSimilarity([*texts, END_WORD]),) if any(t.strip() for t in texts) else ()
            self._similarities[fold] = fitted + ((self._minilm,) if self._minilm else ())
        return self._similarities[fold]

    # --- Rows -------------------------------------------------------------------------------------------------------

    def _scope(self, scope: tuple[str, str]) -> Scope:
        source, task = scope
        if task == "landmarks":
            units = self.label_units(scope)
            return Scope(source, task, "", len(self.found.units[scope]), len(units.groups), "", units.support)
        groups = {self._truth[scope].units[key][0] for key in self.found.units[scope]}
        return Scope(source, task, "", len(self.found.units[scope]), len(groups), "")

    def _add(self, name: str, scope: tuple[str, str], metric: str, context: str, entry: Mapping[str, Any]) -> None:
        source, task = scope
        ceiling = self.ceilings.get(f"{source}/{task}/{metric}", {})
        if context != GOLD:  # the inputs that were measured have the true earlier texts among them
            ceiling = {key: value for key, value in ceiling.items() if key != "ceiling_inputs"}
        self.found.rows.append(
            {
                "system": name,
                "source": source,
                "task": task,
                "metric": metric,
                "context": context,
                "world": self.variant.worlds[source],
                "init": self.found.inits.get(name, ""),
                **{key: entry[key] for key in ("value", "low", "high")},
                **{key: ceiling.get(key) for key in ("ceiling_state", "ceiling_inputs")},
                "unit": UNIT_NAMES[task],
                "n_units": entry["n_units"],
                "n_groups": entry["n_groups"],
            }
        )

    def prevalence(self) -> None:
        """Of every class, as rows of the system `data`."""
        for scope in (s for s in self.found.units if s[1] == "landmarks"):
            units = self.label_units(scope)
            for name, share in zip(units.names, units.prevalence.tolist(), strict=True):
                about = units.support[name]
                entry = {"value": None if np.isnan(share) else share, "low": None, "high": None}
                numbers = {"n_units": about.units, "n_groups": about.groups}
                self._add(DATA, scope, f"class/{name}/prevalence", GOLD, entry | numbers)

    def others(self) -> None:
        """What the folds' evaluations score and pooling does not know: means over folds by units, without intervals."""
        known = {(r["system"], r["source"], r["task"], r["metric"], r["context"]) for r in self.found.rows}
        for system in self.plan.systems:
            if not system.trained:
                continue
            found: dict[tuple[str, str, str, str], list[tuple[float, int, int]]] = {}
            for seed in self.plan.study.seeds:
                for fold in range(len(self.variant.folds)):
                    job = self.plan.job(self.variant, system, fold, seed)
                    for key, entry in json.loads((job.results / METRICS).read_text()).items():
                        place = foreign(key)
                        if place and (system.shown, *place) not in known and entry["value"] is not None:
                            values = found.setdefault(place, [])
                            values.append((entry["value"], entry["n_units"], entry["n_groups"]))
            for (source, task, metric, context), values in found.items():
                sizes = [n for _, n, _ in values]
                mean = sum(v * n for v, n, _ in values) / max(sum(sizes), 1)
                seeds = len(self.plan.study.seeds)
                numbers = {"n_units": sum(sizes) // seeds, "n_groups": sum(g for _, _, g in values) // seeds}
                entry = {"value": mean, "low": None, "high": None, **numbers}
                self._add(system.shown, (source, task), metric, context, entry)


def foreign(key: str) -> tuple[str, str, str, str] | None:
    """(source, task, metric, context) of a key of metrics.json that is a score of the system itself, at a task."""
    source, task, *rest = key.split("/")
    context = GOLD
    if rest[0] == "context":
        context, rest = rest[1], rest[2:]
    if not rest or rest[0] in ("trivial", "gain", "class", "undefined_classes") or task not in TASKS:  # as `places`
        return None
    return source, task, "/".join(rest), context
