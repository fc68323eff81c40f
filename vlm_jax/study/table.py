"""table.csv in long form, and the short table of each task as LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vlm_jax.contract import TEXT_TASKS
from vlm_jax.study.pool import GOLD
from vlm_jax.study.scores import COLUMNS, DATA, SHUFFLED, Row

_COSINES = tuple(f"{floor}{name}" for name in ("cosine_tfidf", "cosine_minilm") for floor in ("", f"{SHUFFLED}/"))
SHOWN = {
    "landmarks": ("f1_macro", "f1_micro", "precision_macro", "recall_macro", "map"),
    **dict.fromkeys(TEXT_TASKS, ("bleu2", "rouge_l", *_COSINES, "exact")),
}
"""What the short tables show of each task; table.csv has all."""
_TEX = {"\\": r"\textbackslash{}", **{c: "\\" + c for c in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\^{}"}


def csv_text(rows: Iterable[Row]) -> str:
    """The whole table; floats to the last digit, nothing where undefined or not given."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(row[key]) for key in COLUMNS} for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None else repr(float(value)) if isinstance(value, float) else value


def scopes_of(rows: Iterable[Row]) -> list[tuple[str, str, str]]:
    """(world, source, task) in the order of the rows."""
    return list(dict.fromkeys((row["world"], row["source"], row["task"]) for row in rows))


def short_table(rows: Iterable[Row], world: str, source: str, task: str) -> dict[str, dict[str, Row]]:
    """{system: {metric: row}} of the gold context, in the order of the study's systems."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        here = (row["world"], row["source"], row["task"]) == (world, source, task)
        if here and row["context"] == GOLD and row["system"] != DATA and row["metric"] in SHOWN[task]:
            found.setdefault(row["system"], {})[row["metric"]] = row
    return found


def latex(rows: Sequence[Row]) -> str:
    """One booktabs table a task, source and world."""
    return "\n".join(_latex_table(rows, *scope) for scope in scopes_of(rows))


def _latex_table(rows: Sequence[Row], world: str, source: str, task: str) -> str:
    systems = short_table(rows, world, source, task)
    metrics = [m for m in SHOWN[task] if any(m in of for of in systems.values())]
    about = next(row for of in systems.values() for row in of.values())
    size = f"{about['n_units']} {about['unit']} units, {about['n_groups']} groups"
    lines = [
        r"\begin{table}",
        rf"\caption{{{tex(f'{task} on {source} ({world}): {size}. Out of fold, 95 % intervals over groups.')}}}",
        rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        r"\toprule",
        " & ".join(["system", *map(tex, metrics)]) + r" \\",
        r"\midrule",
        *(" & ".join([tex(name), *(_latex_cell(of.get(m)) for m in metrics)]) + r" \\" for name, of in systems.items()),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "--"
    interval = "" if row["low"] is None else rf" {{\scriptsize [{row['low']:.3f}, {row['high']:.3f}]}}"
    return f"{row['value']:.3f}{interval}"


def tex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(_TEX.get(c, c) for c in text)
