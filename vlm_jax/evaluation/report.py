"""report.html: one file that needs nothing else, with every score beside the trivial ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from vlm_jax.contract import is_simulated
from vlm_jax.evaluation.intervals import Estimate
from vlm_jax.evaluation.report_plots import Bar, bars, curves, number
from vlm_jax.evaluation.report_samples import card, pick
from vlm_jax.evaluation.report_style import STYLE
from vlm_jax.evaluation.table import SHOWN
from vlm_jax.evaluation.units import counted

_TASKS = {
    "landmarks": "Landmarks in view",
    "places": "Where landmarks are, by their masks",
    "describe": "Description of the current activity",
    "anticipate": "Description of the next activity",
    "report": "Next sentence of the report",
}
_READING = """Intervals are 95 % bootstrap intervals over whole groups (patients or procedures); none is given under six
groups. "Gain" is the paired difference to the trivial system that is best at that metric; an interval without 0
excludes the trivial score. BLEU-2 is corpus BLEU on a 0-1 scale; ROUGE-L its F1. Classes without a positive in this
split are undefined for every system; "two-sided" leaves out those without a negative, too. Cosines hardly hear
negation: read them beside "shuffled", the same sentences dealt to the wrong units."""


@dataclass(frozen=True)
class Page:
    """What the report says.

    Attributes:
      metrics: as in metrics.json.
      curves: {source: {class: (score float[U], truth bool[U])}}.
      worlds: {source: its full world: real, or simulated with what sets it apart and by which simulator}.
      thresholds: by scoped label name.
      notices: what the data room wants read beside the scores (an optimistic split, say).
    """

    name: str
    split: str
    metrics: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]
    worlds: Mapping[str, str]
    thresholds: Mapping[str, float | None]
    meta: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def sources(self) -> list[str]:
        return list(dict.fromkeys(key.split("/", 1)[0] for key in self.metrics))

    def title(self) -> str:
        worlds = [self.worlds[s] for s in self.sources() if is_simulated(self.worlds[s])]
        mark = "simulated data" if len(worlds) == len(self.sources()) else "partly simulated data"
        more = ", ".join(dict.fromkeys(filter(None, (w.partition(", ")[2] for w in worlds))))
        mark += f" ({more})" if more else ""
        where = "all of other data" if self.split == "all" else f"the {self.split} split"
        return f"{self.name} on {where}" + (f" – {mark}" if worlds else "")


def report_html(page: Page, rows: Sequence[Mapping[str, Any]], image_of: Callable[[int], bytes | None]) -> str:
    """The page as one string.

    Args:
      rows: of predictions.jsonl.
      image_of: JPEG bytes of a row, None where it has none.
    """
    body = "".join(_source(page, source, rows, image_of) for source in page.sources())
    notices = "".join(f'<p class="note">{escape(n)}</p>' for n in page.notices)
    step = f", step {escape(str(page.meta['step']))}" if "step" in page.meta else ""
    title = escape(page.title())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>"
        f'<p class="lead">Model {escape(page.name)}{step}. Every score stands beside what needs no model.</p>{notices}'
        f"{body}<footer><p>{escape(_READING)}</p></footer></main></body></html>\n"
    )


def _source(page: Page, source: str, rows: Sequence[Mapping[str, Any]], image_of: Callable[[int], bytes | None]) -> str:
    world = page.worlds[source]
    tasks = list(dict.fromkeys(k.split("/")[1] for k in page.metrics if k.startswith(source + "/")))
    parts = [f'<section><h2>{escape(source)} <span class="world">{escape(world)}</span></h2>']
    for task in tasks:
        parts.append(_task(page, source, task))
    located = f"{source}/places/iou" in page.metrics  # without masks nobody knows what its places mean
    cards = "".join(card(row, image_of(row["row"]), boxes=located) for row in pick(rows, source))
    note = "Words that differ from the truth are marked."
    if located:
        note += " Boxes are around the places of landmarks that the model calls present; dashed, those of the masks."
    parts.append(f"<h3>Samples, {escape(world)}</h3><p class='note'>{note}</p>")
    parts.append(f'<div class="cards">{cards}</div></section>')
    return "".join(parts)


def _task(page: Page, source: str, task: str) -> str:
    prefix = f"{source}/{task}/"
    own = {k.removeprefix(prefix): v for k, v in page.metrics.items() if k.startswith(prefix)}
    any_entry = next(iter(own.values()))
    size = f"{counted(any_entry['n_units'], any_entry['unit'])}, {counted(any_entry['n_groups'], 'group')}"
    parts = [f'<h3>{_TASKS[task]}</h3><p class="note">{size}, {escape(page.worlds[source])}.</p>', _table(own)]
    if task == "landmarks":
        world = page.worlds[source]
        parts.append(bars(_bars(own), f"F1 by landmark, {source} ({world})", "all positive (trivial)"))
        thresholds = {k.split("/", 1)[1]: v for k, v in page.thresholds.items() if k.startswith(source + "/")}
        known = dict(page.curves.get(source, {}))
        parts.append(curves(known, thresholds, f"Precision and recall by landmark, {source} ({world})"))
        missing = own["undefined_classes"]["names"]
        if missing:
            parts.append(f'<p class="note">Undefined here, without a positive: {escape(", ".join(missing))}.</p>')
    return "".join(parts)


def _bars(own: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    names = [k.split("/", 1)[1].rsplit("/", 1)[0] for k in own if k.startswith("class/") and k.endswith("/f1")]
    return [
        Bar(
            name,
            Estimate(*(own[f"class/{name}/f1"][k] for k in ("value", "low", "high"))),
            own[f"class/{name}/prevalence"]["value"],
            own[f"trivial/all_positive/class/{name}/f1"]["value"],
        )
        for name in names
    ]


def _table(own: Mapping[str, Mapping[str, Any]]) -> str:
    """Metrics down, the model first, then its gain, its other contexts and the trivial systems."""
    shown = [m for m in SHOWN if m in own]
    groups = [(kind, name) for kind in ("context", "trivial") for name in _names(own, kind)]
    labels = [f"{name}<br><small>{kind}</small>" for kind, name in ((k, escape(n)) for k, n in groups)]
    head = "".join(f"<th>{h}</th>" for h in ("", "model", "gain over trivial", *labels))
    lines = []
    for metric in shown:
        cells = [f"<td>{escape(metric)}</td>", f'<td class="own">{_score(own[metric])}</td>', _gain(own, metric)]
        for kind, name in groups:
            entry = own.get(f"{kind}/{name}/{metric}")
            cells.append(f"<td>{number(entry['value']) if entry else ''}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _names(own: Mapping[str, Any], kind: str) -> list[str]:
    return list(dict.fromkeys(k.split("/")[1] for k in own if k.startswith(kind + "/")))


def _score(entry: Mapping[str, Any], sign: str = "") -> str:
    if entry["value"] is None:
        return "–"
    interval = "" if entry["low"] is None else f" <small>[{entry['low']:{sign}.2f}, {entry['high']:{sign}.2f}]</small>"
    return f"{entry['value']:{sign}.2f}{interval}"


def _gain(own: Mapping[str, Mapping[str, Any]], metric: str) -> str:
    entry = own.get(f"gain/{metric}")
    if entry is None:
        return "<td></td>"
    kind = "better" if (entry["low"] or 0) > 0 else "worse" if (entry["high"] or 0) < 0 else ""
    return f'<td class="{kind}">{_score(entry, "+")}<br><small>over {escape(entry["over"])}</small></td>'
