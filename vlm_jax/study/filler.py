"""The template filler: structured text from predicted landmarks alone, by phrases counted in training.

What it is for (OURS): if a description says little more than which landmarks are in view, then a classifier and a table
of phrases write it as well as a language model does. It reads no text, so that its answers are the same in every
context.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_jax.contract import Record
from vlm_jax.data.check_rows import named_labels, plain
from vlm_jax.evaluation.run import PREDICTIONS, split_units
from vlm_jax.evaluation.units import as_scored
from vlm_jax.study.plan import Job
from vlm_jax.study.untrained import base_row, open_fold, read_rows, said, write_results

SEPARATOR = ", "
STRUCTURED = ("describe", "anticipate")

Landmarks = frozenset[str]


@dataclass(frozen=True)
class Example:
    """One training activity: what is labelled in view, its description, the next one."""

    landmarks: Landmarks
    description: str | None
    following: str | None


@dataclass(frozen=True)
class TemplateFiller:
    """`fit` on training activities, `describe` and `anticipate` from a set of landmarks.

    Attributes:
      names: of all landmarks, in the order of the labels.
      descriptions, followings: (landmarks, text, how often), each text's first in the alphabet first.
      phrases: {landmark: its most frequent clause}.
      longest: words of the longest training description.
    """

    names: tuple[str, ...]
    descriptions: tuple[tuple[Landmarks, str, int], ...]
    followings: tuple[tuple[Landmarks, str, int], ...]
    phrases: dict[str, str]
    longest: int

    @classmethod
    def fit(cls, examples: Iterable[Example], names: Sequence[str]) -> TemplateFiller:
        """Counts descriptions by their landmarks, and clauses by the landmark that each names first."""
        examples = list(examples)
        clauses: dict[str, Counter[str]] = {}
        for text in (e.description for e in examples if e.description):
            for clause in text.split(SEPARATOR):
                if owner := first_named(clause, names):
                    clauses.setdefault(owner, Counter())[clause] += 1
        return cls(
            tuple(names),
            _counted((e.landmarks, e.description) for e in examples if e.description),
            _counted((e.landmarks, e.following) for e in examples if e.following),
            {name: min(found, key=lambda c: (-found[c], c)) for name, found in clauses.items()},
            max((len(e.description.split()) for e in examples if e.description), default=0),
        )

    def describe(self, landmarks: Landmarks) -> str:
        """The nearest training description, without the clauses of absent landmarks and with those of missing ones."""
        kept, told = [], set[str]()
        for clause in nearest(self.descriptions, landmarks).split(SEPARATOR):
            owner = first_named(clause, self.names)
            if owner is None or owner in landmarks:
                kept.append(clause)
                told.add(owner or "")
        for name in self.names:
            phrase = self.phrases.get(name)
            if name in landmarks and name not in told and phrase:
                longer = SEPARATOR.join([*kept, phrase])
                if len(longer.split()) <= self.longest:
                    kept.append(phrase)
        return SEPARATOR.join(kept)

    def anticipate(self, landmarks: Landmarks) -> str:
        """What most often followed the training activities with the most similar landmarks."""
        return nearest(self.followings, landmarks)


def _counted(pairs: Iterable[tuple[Landmarks, str]]) -> tuple[tuple[Landmarks, str, int], ...]:
    counts = Counter(pairs)
    return tuple(sorted(((s, t, n) for (s, t), n in counts.items()), key=lambda row: (row[1], sorted(row[0]))))


def nearest(rows: Sequence[tuple[Landmarks, str, int]], landmarks: Landmarks) -> str:
    """The text of the row with the highest Jaccard similarity; then the most frequent, then the alphabet."""
    if not rows:
        return ""

    def similarity(other: Landmarks) -> float:
        union = len(landmarks | other)
        return len(landmarks & other) / union if union else 1.0

    return min(rows, key=lambda row: (-similarity(row[0]), -row[2], row[1]))[1]


def first_named(clause: str, names: Sequence[str]) -> str | None:
    """The landmark that a clause names first, None where it names none; `names` within a longer one do not count."""
    found = [names[i] for i in named_labels(clause, names)]
    return min(found, key=lambda name: plain(clause).find(plain(name))) if found else None


def fill(parent: Job, job: Job) -> None:
    """Fits on the fold's training groups and answers its test units from what `parent` predicted on their frames."""
    data = open_fold(job)
    predicted = {(row["source"], row["uid"]): row for row in read_rows(parent.results / PREDICTIONS)}
    contexts = sorted({c for row in predicted.values() for c in present_in_contexts(row.get("landmarks") or {})[1]})
    units = split_units(data, "test", STRUCTURED)
    training = [u.record for u in split_units(data, "train", ("describe",))["describe"]]
    rows: dict[int, dict] = {}
    for source, info in data.sources.items():
        examples = [_example(record, info.labels) for record in training if record.source == source]
        filler = TemplateFiller.fit(examples, info.labels)
        for task in STRUCTURED:
            for unit in (u for u in units[task] if u.record.source == source):
                row = predicted.get((source, unit.record.uid))
                if row is None:  # a broken record, which no system answers
                    continue
                # Where no label is known the parent's row has none, and nothing counts as present.
                write = filler.describe if task == "describe" else filler.anticipate
                landmarks = row.get("landmarks")
                nothing = (frozenset(), dict.fromkeys(contexts, frozenset()))
                gold, others = present_in_contexts(landmarks) if landmarks else nothing
                answer = said(task, unit, as_scored(write(gold)), ())
                answer["contexts"] = {context: as_scored(write(chosen)) for context, chosen in others.items()}
                base_row(rows, unit)[task] = answer
    write_results(job, rows)


def present_in_contexts(landmarks: Mapping[str, Mapping[str, Any]]) -> tuple[Landmarks, dict[str, Landmarks]]:
    """The landmarks that a row of predictions calls present: under the gold context, and under each other one. A parent
    that reads the previous description sees others in other contexts."""
    gold = frozenset(name for name, of in landmarks.items() if of["predicted"])
    contexts = {context for of in landmarks.values() for context in of.get("contexts", {})}

    def present(context: str) -> Landmarks:
        return frozenset(
            name
            for name, of in landmarks.items()
            if of["threshold"] is not None and of["contexts"][context] >= of["threshold"]
        )

    return gold, {context: present(context) for context in sorted(contexts)}


def _example(record: Record, names: Sequence[str]) -> Example:
    labels = dict(zip(names, record.landmarks or (), strict=False))
    return Example(frozenset(n for n, v in labels.items() if v == 1), record.description, record.next_description)
