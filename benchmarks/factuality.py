"""How well the factuality score reads sentences: errors planted in true ones, and labels made by hand.

    python benchmarks/factuality.py --notes ../shared/data/operative_notes --out FILE.json

Planted: sides swapped, negations dropped and inserted, structures, status and actions changed, in sentences of the
simulator and of real notes; an error is detected where the attribute differs from the true sentence's. Paraphrases:
the simulator's other wordings of the same event, which must not contradict. Labels are in tests/metrics.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from sklearn.metrics import cohen_kappa_score

from vlm_jax.data.sources.operative_notes import read_notes
from vlm_jax.evaluation.intervals import Groups, Samples, weighted_mean
from vlm_jax.metrics.facts import facts_of
from vlm_jax.metrics.factuality import contradictions
from vlm_jax.simulator.findings import EMPTY, FINDINGS
from vlm_jax.simulator.keywords import KEYWORDS
from vlm_jax.simulator.language import word

LABELS = Path(__file__).parent.parent / "tests/metrics/factuality_labels.jsonl"
SECOND = LABELS.with_name("factuality_labels_second.jsonl")
"""The same sentences by a reader who saw neither the rules nor the first reader's labels."""
LABELLED = ("landmark", "laterality", "status", "negation", "action")
FILES = ("ent_operative.jsonl", "fess_operative.jsonl")

SIDES = {"left": "right", "right": "left"}
STRUCTURES = {
    "middle concha": "inferior concha",
    "middle turbinate": "inferior turbinate",
    "inferior turbinate": "middle turbinate",
    "septum": "uvula",
    "maxillary sinus": "frontal sinus",
    "sphenoid sinus": "maxillary sinus",
    "choana": "frontal recess",
    "tonsil": "epiglottis",
    "tonsils": "epiglottis",
    "adenoids": "vocal cords",
    "nasopharynx": "middle ear",
    "tympanic membrane": "soft palate",
    "soft palate": "trachea",
    "uncinate process": "ethmoidal bulla",
    "anterior ethmoidal cells": "posterior ethmoidal cells",
    "ethmoidal bulla": "uncinate process",
}
ACTIONS = {
    "removed": "injected",
    "opened": "sutured",
    "incised": "irrigated",
    "injected": "excised",
    "irrigated": "incised",
    "sutured": "opened",
    "cauterized": "biopsied",
    "suctioned": "closed",
    "packed": "inspected",
    "inserted": "removed",
    "cleared": "packed",
    "placed": "removed",
    "closed": "opened",
}
Edit = Callable[[str], str | None]


def _swap(table: dict[str, str], text: str, count: int = 0) -> str | None:
    """The first word of the table that stands in the text (all of them with count 0) exchanged; None without one."""
    pattern = re.compile(rf"\b(?:{'|'.join(sorted(table, key=len, reverse=True))})\b")
    new = pattern.sub(lambda m: table[m[0]], text, count=count)
    return None if new == text else new


def swap_side(text: str) -> str | None:
    """Only where one side is named, and as a side."""
    named = set(re.findall(r"\b(?:left|right)\b", text))
    return _swap(SIDES, text) if len(named) == 1 and not re.search(r"right angle|left (?:in place|the)", text) else None


def drop_negation(text: str) -> str | None:
    new = re.sub(r"\b(?:there (?:was|were) )?no (?:evidence of )?|\bwithout (?:any )?|\bnot ", "", text, count=1)
    return None if new == text else new


def insert_negation(text: str) -> str | None:
    """A "no" before the first finding."""
    if re.search(r"\b(?:no|not|without|nothing|free)\b", text):
        return None
    new = re.sub(r"\b(polyps|secretion|bleeding|pus|mucus|edema|drainage|deviation|scar)\b", r"no \1", text, count=1)
    return None if new == text else new


def change_status(text: str) -> str | None:
    """What was done or seen becomes history."""
    return None if re.search(r"previous|prior|history|before", text) else f"history of {text}"


EDITS: dict[str, tuple[str, Edit]] = {
    "side swapped": ("laterality", swap_side),
    "negation dropped": ("negation", drop_negation),
    "negation inserted": ("negation", insert_negation),
    "structure changed": ("landmark", lambda text: _swap(STRUCTURES, text, 1)),
    "status changed": ("status", change_status),
    "action changed": ("action", lambda text: _swap(ACTIONS, text, 1)),
}
"""Name -> the attribute that must differ, and the edit (None where it does not apply)."""


def plant(texts: Iterable[str]) -> dict[str, dict[str, float]]:
    """{edit: {n, detected, contradicted}} over the texts to which each edit applies; shares."""
    found: dict[str, list[tuple[bool, bool]]] = {name: [] for name in EDITS}
    for text in texts:
        true = facts_of(text)
        for name, (attribute, edit) in EDITS.items():
            if (wrong := edit(text)) is not None:
                said = facts_of(wrong)
                differs = getattr(said, attribute) != getattr(true, attribute)
                found[name].append((differs, any(contradictions(said, true).values())))
    return {
        name: {
            "n": len(rows),
            **dict(zip(("detected", "contradicted"), np.mean(rows or [(0, 0)], axis=0).tolist(), strict=True)),
        }
        for name, rows in found.items()
    }


def wordings() -> list[list[str]]:
    """The simulator's sentences: each event in the wordings of all its surgeons."""
    events = []
    for code, (keyword, _) in KEYWORDS.items():
        values = [None] if keyword.finding is None else list(FINDINGS[keyword.finding].values)
        for value, side in itertools.product(values, ("left", "right")):
            if value != EMPTY or keyword.absent:
                events.append(sorted({word(code, side, value, surgeon) for surgeon in range(10)}))
    return events


def paraphrases(events: list[list[str]]) -> dict[str, float]:
    """Share of pairs of wordings of one event that the rules hold for contradictory."""
    pairs = [pair for event in events for pair in itertools.combinations(event, 2)]
    wrong = [any(contradictions(facts_of(a), facts_of(b)).values()) for a, b in pairs]
    return {"n": len(pairs), "contradicted": float(np.mean(wrong))}


def note_sentences(folder: Path) -> dict[str, str]:
    """{sha256: sentence} of the notes of ear, nose and throat surgery."""
    notes = read_notes([folder / name for name in FILES])
    return {hashlib.sha256(s.encode()).hexdigest(): s for note in notes for s in note.sentences}


def agreement(sentences: dict[str, str], labels: list[dict]) -> dict[str, dict[str, list[float | None]]]:
    """{attribute: {exact, precision, recall}}: value and 95 % interval, resampled by note."""
    groups = Groups.build([row["note"] for row in labels])
    result = {}
    for name in LABELLED:
        rows = []
        for row in labels:
            said, true = getattr(facts_of(sentences[row["sha256"]]), name), frozenset(row[name])
            rows.append((said == true, len(said & true), len(said), len(true), 1))
        sums = groups.sums(np.array(rows, float))

        def fn(weights: np.ndarray, sums: np.ndarray = sums) -> np.ndarray:
            total = weights @ sums
            return weighted_mean(total[:, [0, 1, 1]], total[:, [4, 2, 3]])

        samples = Samples.draw(("exact", "precision", "recall"), fn, len(groups), resamples=2000)
        estimates = {n: samples.estimate(n) for n in samples.names}
        result[name] = {n: [e.value, e.low, e.high] for n, e in estimates.items()}
    return result


def between(first: list[dict], second: list[dict]) -> dict[str, dict[str, float]]:
    """{attribute: {exact, kappa}} of two readers: the share of sentences with the same set, and Cohen's kappa (1960)
    over all pairs of a sentence and a name that either reader used."""
    result = {}
    for name in LABELLED:
        used = sorted({value for row in [*first, *second] for value in row[name]})
        a, b = (np.array([[value in row[name] for value in used] for row in rows]) for rows in (first, second))
        kappa = cohen_kappa_score(a.ravel(), b.ravel())
        result[name] = {"exact": float((a == b).all(axis=1).mean()), "kappa": float(kappa)}
    return result


def read_labels(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--notes", type=Path, help="folder of operative notes; without it only the simulator is used")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    events = wordings()
    result: dict = {
        "planted": {"simulator": plant(text for event in events for text in event)},
        "paraphrases": paraphrases(events),
    }
    if options.notes:
        labels, second = read_labels(LABELS), read_labels(SECOND)
        sentences = note_sentences(options.notes)
        labelled = {row["sha256"] for row in labels}
        result["planted"]["notes"] = plant(text for key, text in sentences.items() if key not in labelled)
        result["labels"] = {
            "n": len(labels),
            "agreement": agreement(sentences, labels),
            "agreement_with_second_reader": agreement(sentences, second),
            "readers": between(labels, second),
        }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
