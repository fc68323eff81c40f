"""The sums of `information`: ceilings over states, entropies of labels, information in bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlm_jax.evaluation.ceilings import entropy_bits
from vlm_jax.metrics.generation import bleu2
from vlm_jax.simulator import anatomy

TASKS = ("describe", "anticipate", "report")


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`tasks`, `labels` and `information` of the result.

    `tasks` {task: {metric: {ceiling_state, ceiling_state_low, ceiling_inputs, ceiling_inputs_low}, states,
    bits_state, bits_inputs}}: entropies of the text, given the state and given the inputs.
    """
    return {
        "tasks": {task: _task(rows, task) for task in TASKS},
        "labels": _labels(rows),
        "information": _information(rows),
    }


def _task(rows: Sequence[dict[str, Any]], task: str) -> dict[str, Any]:
    own = [row for row in rows if f"{task}_state" in row]
    found: dict[str, Any] = {"exact": {}, "bleu2": {}, "states": len(own)}
    for known in ("state", "inputs"):
        cells = [row[f"{task}_{known}"] for row in own]
        for place, suffix in enumerate(("", "_low")):
            name = f"ceiling_{known}{suffix}"
            found["exact"][name] = _mean([cell["exact"][place] for cell in cells])
            sums = np.sum([cell["bleu"][place] for cell in cells], axis=0) if cells else None
            found["bleu2"][name] = None if sums is None else _number(bleu2(sums))
        found[f"bits_{known}"] = _mean([cell["bits"] for cell in cells])
    return found


def _labels(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Entropy of each label and of the set of labels of an activity, in bits."""
    seen = [frozenset(row["labels"]) for row in rows if "labels" in row]
    n = len(seen)
    positive = {name: sum(k in labels for labels in seen) for k, name in enumerate(anatomy.NAMES, 1)}
    bits = {name: entropy_bits([m, n - m]) if n else None for name, m in positive.items()}
    return {
        "states": n,
        "prevalence": {name: m / n if n else None for name, m in positive.items()},
        "bits": bits,
        "bits_of_the_set": entropy_bits(list(Counter(seen).values())) if n else None,
    }


def _information(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Bits: of the previous description about the labels, of the scene about a sentence beyond keyword and context."""
    following = [row for row in rows if row.get("next_n")]
    label: dict[str, Any] = {}
    for k, name in enumerate(anatomy.NAMES):
        counts = [(row["next_labels"][k], row["next_n"] - row["next_labels"][k]) for row in following]
        mean = np.mean([a / (a + b) for a, b in counts]) if counts else np.nan
        total = sum(a + b for a, b in counts)
        whole = entropy_bits([round(mean * total), round((1 - mean) * total)]) if counts else np.nan
        given = np.mean([entropy_bits(pair) for pair in counts]) if counts else np.nan
        label[name] = max(float(whole - given), 0.0) if counts else None
    bits = [value for value in label.values() if value is not None]
    sentences = [row for row in rows if "report_text" in row]
    return {
        "previous_description_about_labels": {
            "bits": label,
            "sum": float(sum(bits)) if bits else None,
            "states": len(following),
        },
        "scene_about_sentence": {
            kind: _gain([row for row in sentences if kind == "all" or row["visual"] == (kind == "visual")])
            for kind in ("all", "visual", "procedural")
        },
    }


def _gain(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Entropy of the sentence given keyword and context, given the image too, and the difference."""
    without = _mean([row["report_text"]["bits"] for row in rows])
    given = _mean([row["report_inputs"]["bits"] for row in rows])
    gain = without - given if without is not None and given is not None else None
    return {"without_image": without, "with_image": given, "bits": gain, "states": len(rows)}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _number(value: float | np.ndarray) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
