"""The scores of metrics.json for a terminal: each beside the strongest trivial one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROWS = (
    ("landmarks", "f1_macro"),
    ("landmarks", "map"),
    ("describe", "bleu2"),
    ("describe", "rouge_l"),
    ("anticipate", "bleu2"),
    ("anticipate", "rouge_l"),
    ("report", "bleu2"),
    ("report", "rouge_l"),
)
"""(task, metric) of the table, in order."""


def summary_table(metrics: Mapping[str, Any], source: str) -> str:
    """One line a task and metric that `metrics` (the flat form of metrics.json) has for the source."""
    lines = [f"{source:<24}{'score':>7}  {'95 % interval':<15}  best trivial score"]
    for task, metric in ROWS:
        row = metrics.get(f"{source}/{task}/{metric}")
        if row is not None:
            trivial = best_trivial(metrics, source, task, metric)
            beside = f"{_number(trivial[1])} {trivial[0]}" if trivial else "-"
            lines.append(f"{task + ' ' + metric:<24}{_number(row['value']):>7}  {_interval(row):<15}  {beside}")
    return "\n".join(lines)


def best_trivial(metrics: Mapping[str, Any], source: str, task: str, metric: str) -> tuple[str, float] | None:
    """Name and value of the strongest trivial system of a metric; None where there is none."""
    start, end = f"{source}/{task}/trivial/", f"/{metric}"
    values = {
        key.removeprefix(start).removesuffix(end): row["value"]
        for key, row in metrics.items()
        if key.startswith(start) and key.endswith(end) and row["value"] is not None
    }
    return max(values.items(), key=lambda item: item[1]) if values else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row.get("low") is None else f"{row['low']:.3f} - {row['high']:.3f}"
