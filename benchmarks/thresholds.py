"""How to choose decision thresholds on few validation procedures: rules compared on drawn scores of new patients.

    python benchmarks/thresholds.py --out benchmarks/thresholds.json

Nothing is trained. Six classes; shares, and what scores are off by, differ from patient to patient. Frames come in
activities of one to five. Validation is of the training patient, the test of another. Two kinds of scores: log-odds
that hold the class's share, more or less sure than they should be, and signals about nought. A figure is the mean
difference of macro-F1 (of the classes with both kinds in the test) to the best threshold on validation's labels.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

from vlm_jax.evaluation import thresholds

CLASSES = 6
VALIDATED, SHIFTS = (9, 18, 60), (0.0, 1.0, 2.0)
Patient = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Scores float[U, C], labels bool[U, C], activities str[U]."""


def patient(
    rng: np.random.Generator, kind: str, draw: dict[str, Any], share: np.ndarray, n: int, off: np.ndarray
) -> Patient:
    """n activities of a patient; `off` float[C] in log-odds, what the patient's scores are off by."""
    shown = rng.random((n, CLASSES)) < share
    activity = np.repeat(np.arange(n), rng.integers(1, 6, n))
    truth, size = shown[activity], (len(activity), CLASSES)
    side = 2.0 * truth - 1
    if kind == "log-odds":
        x = side * draw["apart"] + rng.normal(0, 0.8, size) + rng.normal(0, 0.6, (n, CLASSES))[activity]
        z = draw["sure"] * 2 * draw["apart"] * x + logit(draw["trained"]) + off
    else:
        scale = 1 + 2 * draw["sure"]
        noise = rng.normal(0, 0.6 * scale, size) + rng.normal(0, 0.35 * scale, (n, CLASSES))[activity]
        z = scale * side + noise + off * scale / 2
    return np.clip(expit(z), 1e-6, 1 - 1e-6), truth, activity.astype(str)


def rules() -> dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, float], float | None]]:
    """Of one class: (scores, labels, activities, share in training) -> threshold."""
    best, believed = thresholds.best_threshold, thresholds.believed
    found: dict[str, Callable[..., float | None]] = {
        "labels": lambda s, y, a, p: best(s, y),
        "0.5": lambda s, y, a, p: 0.5,
        "all present": lambda s, y, a, p: 0.0,
        "scores": lambda s, y, a, p: best(s, s),
        "chosen": lambda s, y, a, p: best(s, believed(s, y, a, p)),
    }
    for of_labels, of_scores in ((30, 10), (300, 10), (100, 0), (100, 1), (100, 3), (100, 5)):
        found[f"labels {of_labels}, scores {of_scores}"] = lambda s, y, a, p, m=of_labels, n=of_scores: best(
            s, believed(s, y, a, p, of_labels=m, of_scores=n)
        )
    return found


def one_draw(kind: str, validated: int, shift: float, seed: int) -> dict[str, float]:
    """Macro-F1 on the new patient by each rule, and by the best thresholds there."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(0.8, 1.5, CLASSES)
    here, there = (expit(middle + rng.normal(0, 1, CLASSES)) for _ in range(2))
    trained = np.clip(here + rng.normal(0, 0.1, CLASSES), 0.01, 0.99)
    draw = {"apart": rng.uniform(0.6, 1.6, CLASSES), "sure": rng.uniform(0.5, 1.5), "trained": trained}
    score, truth, activity = patient(rng, kind, draw, here, validated, rng.normal(0, 0.3, CLASSES))
    new, seen, _ = patient(rng, kind, draw, there, 60, rng.normal(0, 1, CLASSES) * shift)
    counted = [c for c in range(CLASSES) if seen[:, c].any() and not seen[:, c].all()]

    def macro(cuts: list[float | None]) -> float:
        return float(
            np.mean(
                [f1(seen[:, c], new[:, c] >= (2.0 if t is None else t)) for c, t in zip(counted, cuts, strict=True)]
            )
        )

    found = {
        name: macro([rule(score[:, c], truth[:, c], activity, float(trained[c])) for c in counted])
        for name, rule in rules().items()
    }
    return found | {"in hindsight": macro([thresholds.best_threshold(new[:, c], seen[:, c]) for c in counted])}


def f1(truth: np.ndarray, called: np.ndarray) -> float:
    return float(2 * (truth & called).sum() / (truth.sum() + called.sum()))


def compare(draws: int) -> list[dict[str, Any]]:
    """A row for each kind of scores, number of validated activities and shift of new patients."""
    rows = []
    for kind in ("log-odds", "signals"):
        for validated in VALIDATED:
            for shift in SHIFTS:
                runs = [one_draw(kind, validated, shift, seed) for seed in range(draws)]
                base = np.array([run["labels"] for run in runs])
                gains = {name: np.array([run[name] for run in runs]) - base for name in runs[0]}
                rows.append(
                    {"scores": kind, "validated": validated, "shift": shift, "labels": round(float(base.mean()), 4)}
                    | {
                        "gain": {name: round(float(g.mean()), 4) for name, g in gains.items() if name != "labels"},
                        "error": {
                            name: round(float(g.std() / draws**0.5), 4) for name, g in gains.items() if name != "labels"
                        },
                    }
                )
                print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Gains by the number of validated activities and by shift, both kinds of scores averaged."""
    names = list(rows[0]["gain"])
    parts = [("validated", n) for n in VALIDATED] + [("shift", s) for s in SHIFTS]
    lines = ["| rule | all | worst | " + " | ".join(f"{key} {value:g}" for key, value in parts) + " |"]
    lines.append("|" + "---|" * (len(parts) + 3))
    for name in names:
        gains = [row["gain"][name] for row in rows]
        means = [np.mean([row["gain"][name] for row in rows if row[key] == value]) for key, value in parts]
        lines.append(f"| {name} | " + " | ".join(f"{x:+.3f}" for x in (np.mean(gains), min(gains), *means)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Rules for thresholds, compared on drawn scores of new patients.")
    parser.add_argument("--draws", type=int, default=100, help="patients of each row; default: 100")
    parser.add_argument("--out", metavar="FILE", help="the figures as JSON")
    args = parser.parse_args()
    rows = compare(args.draws)
    if args.out:
        Path(args.out).write_text(json.dumps({"draws": args.draws, "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
