"""The metrics as lines for a terminal: the model beside the best trivial score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlm_jax.evaluation.units import counted

SHOWN = (
    "f1_macro", "f1_macro_two_sided", "f1_micro", "f1_weighted", "f1_sample", "precision_macro", "recall_macro",
    "f1_macro_at_0.5", "map", "map_two_sided", "iou", "iou_soft", "area_error", "bleu2", "rouge_l", "exact",
    "cosine_tfidf", "cosine_minilm",
)  # fmt: skip
"""The metrics of a task that a person reads first, in this order."""


def table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """One line a metric: value, interval, each trivial score."""
    lines: list[str] = []
    for scope in dict.fromkeys(tuple(key.split("/")[:2]) for key in metrics):
        prefix = "/".join(scope) + "/"
        own = {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
        about = next(iter(own.values()))
        size = f"{counted(about['n_units'], about['unit'])}, {counted(about['n_groups'], 'group')}, {about['world']}"
        size += f", {about['simulator']}" if about.get("simulator") else ""
        lines += ["", f"{scope[0]} / {scope[1]} ({size})"]
        lines += [_line(name, own) for name in SHOWN if name in own]
        if own.get("undefined_classes", {}).get("names"):
            lines.append(f"  undefined, without a positive: {', '.join(own['undefined_classes']['names'])}")
    return "\n".join(lines[1:])


def _line(name: str, own: Mapping[str, Mapping[str, Any]]) -> str:
    entry = own[name]
    interval = "" if entry["low"] is None else f"[{entry['low']:.3f}, {entry['high']:.3f}]"
    rivals = {key.split("/")[1]: e["value"] for key, e in own.items() if _is_trivial(key, name)}
    trivial = ", ".join(f"{rival} {_number(value)}" for rival, value in rivals.items())
    return f"  {name:<19} {_number(entry['value']):>6} {interval:<16} trivial: {trivial or 'none'}"


def _is_trivial(key: str, name: str) -> bool:
    parts = key.split("/")
    return len(parts) == 3 and parts[0] == "trivial" and parts[2] == name


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
