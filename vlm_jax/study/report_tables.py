"""The study's tables as HTML: contrasts, scores, contexts, classes; and the forest of one metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from vlm_jax.evaluation.report_plots import number
from vlm_jax.study.contrasts import ABOVE, BELOW, NOT_RUN, ONE_SEED, Contrast
from vlm_jax.study.pool import GOLD, TRIVIAL_PREFIX
from vlm_jax.study.scores import DATA, Row
from vlm_jax.study.table import SHOWN, short_table

ROOM = 1.25
"""Width of a forest over its best value."""


def table(head: Sequence[str], lines: Iterable[str]) -> str:
    """A table that scrolls on its own where it is wider than the page; cells are HTML already."""
    cells = "".join(f"<th>{h}</th>" for h in head)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def scored(row: Mapping[str, object] | None, sign: str = "") -> str:
    """`0.51 [0.45, 0.56]`."""
    if row is None or row["value"] is None:
        return "–"
    low, high = row["low"], row["high"]
    interval = "" if low is None else f" <small>[{low:{sign}.3f}, {high:{sign}.3f}]</small>"
    return f"{row['value']:{sign}.3f}{interval}"


def contrast_table(contrasts: Sequence[Contrast]) -> str:
    """The primaries of every world; where a world has no such effect to find, whether one came out."""
    worlds = list(dict.fromkeys(c.world for c in contrasts))
    parts = [
        '<section id="contrasts"><h2>Primary contrasts</h2><p class="note">One for each finding of the paper, margins '
        "fixed beforehand (docs/decisions/study-contrasts.md). above: the whole interval lies beyond +margin; below: "
        "beyond -margin; within: inside both. A verdict stands where p, adjusted by Holm over the seven, is under "
        "0.05 and each system was trained by two seeds or more; all other comparisons on this page are "
        "descriptive.</p>"
    ]
    for world in worlds:
        parts.append(f'<h3><span class="world">{escape(world)}</span></h3>')
        head = ('<span class="left">finding of the paper</span>', "verdict", "difference", "first", "second", "score")
        several = len({c.source for c in contrasts}) > 1
        lines = [_contrast(c, c.source if several else "") for c in contrasts if c.world == world]
        parts.append(table((*head, "margin", "interval says", "p (Holm)"), lines))
    return "".join(parts) + "</section>"


def _contrast(c: Contrast, source: str) -> str:
    estimate = {"value": c.value, "low": c.low, "high": c.high}
    p = "–" if c.p is None or c.p_holm is None else f"{c.p:.3g} ({c.p_holm:.3g})"
    note = ""
    if c.removed and c.verdict != NOT_RUN:
        came = "it came out all the same" if c.verdict in (ABOVE, BELOW) else "it did not come out"
        note = (
            f"<br><small>removed in this world: {'one training cannot tell' if c.verdict == ONE_SEED else came}</small>"
        )
    for name, better in c.not_learned.items():
        note += f"<br><small>{escape(name)} is below {escape(better)}: it may not have learned yet</small>"
    cells = [
        f'<td class="text">{escape(c.finding)}{f"<br><small>on {escape(source)}</small>" if source else ""}</td>',
        f'<td class="verdict {c.verdict}">{c.verdict}{note}</td><td>{scored(estimate, "+")}</td>',
        *(f"<td>{escape(text)}</td>" for text in (c.first, c.second, f"{c.task} {c.metric}")),
        f"<td>{c.margin}</td><td>{c.interval}</td><td>{p}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def score_table(rows: Sequence[Row], task: str) -> str:
    """Systems down, metrics across, in the gold context, with both ceilings below where there are any."""
    first = rows[0]
    systems = short_table(rows, first["world"], first["source"], task)
    metrics = [m for m in SHOWN[task] if any(m in of for of in systems.values())]
    lines = []
    for name, of in systems.items():
        kind = ' class="trivial"' if name.startswith(TRIVIAL_PREFIX) else ""
        init = next(iter(of.values()))["init"]
        cells = "".join(f"<td>{scored(of.get(m))}</td>" for m in metrics)
        lines.append(f'<tr{kind}><td>{escape(name)}</td><td class="left">{escape(init)}</td>{cells}</tr>')
    for key, label in (("ceiling_state", "ceiling: state of the scene"), ("ceiling_inputs", "ceiling: inputs")):
        values = [next((of[m][key] for of in systems.values() if m in of), None) for m in metrics]
        if any(v is not None for v in values):
            cells = "".join(f"<td>{number(v)}</td>" for v in values)
            lines.append(f"<tr><td>{label}</td><td></td>{cells}</tr>")
    return table(("system", '<span class="left">started from</span>', *map(escape, metrics)), lines)


def context_table(rows: Sequence[Row], metric: str) -> str:
    """One metric under gold, rolled-out and empty contexts."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["metric"] == metric and not row["system"].startswith(TRIVIAL_PREFIX) and row["system"] != DATA:
            found.setdefault(row["system"], {})[row["context"]] = row
    contexts = list(dict.fromkeys(c for of in found.values() for c in of))
    if len(contexts) < 2:
        return ""
    lines = [
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{scored(of.get(c))}</td>' for c in contexts)}</tr>"
        for name, of in found.items()
    ]
    head = ("system", *(escape(c.replace("_", " ")) for c in contexts))
    return f"<h3>{escape(metric)} by context</h3>{table(head, lines)}"


def class_table(rows: Sequence[Row], title: str) -> str:
    """F1 of every class and system, the most frequent class first; colour is the value."""
    shares = {
        _class(row): row["value"] for row in rows if row["system"] == DATA and row["metric"].endswith("/prevalence")
    }
    f1: dict[tuple[str, str], Row] = {
        (_class(row), row["system"]): row for row in rows if row["metric"].endswith("/f1") and row["context"] == GOLD
    }
    systems = list(dict.fromkeys(name for _, name in f1 if not name.startswith(TRIVIAL_PREFIX)))
    systems += [name for name in (f"{TRIVIAL_PREFIX}all_positive",) if any(s == name for _, s in f1)]
    lines = []
    for name in sorted(shares, key=lambda n: -(shares[n] or 0)):
        cells = "".join(_heat(f1.get((name, system))) for system in systems)
        lines.append(f"<tr><td>{escape(name)}</td><td>{number(shares[name])}</td>{cells}</tr>")
    head = ("landmark", "prevalence", *(f'<span class="slanted">{escape(s)}</span>' for s in systems))
    return f"<h3>{escape(title)}</h3>{table(head, lines)}"


def _class(row: Row) -> str:
    return row["metric"].split("/", 1)[1].rsplit("/", 1)[0]


def _heat(row: Row | None) -> str:
    if row is None or row["value"] is None:
        return '<td class="heat">–</td>'
    low = "" if row["low"] is None else f" [{row['low']:.2f}, {row['high']:.2f}]"
    shade = f"background: rgba(15, 118, 110, {0.55 * row['value']:.2f})"
    return f'<td class="heat" style="{shade}" title="{row["value"]:.3f}{low}">{row["value"]:.2f}</td>'


def forest(rows: Sequence[Row], metric: str, title: str) -> str:
    """One metric of every system with its interval, best first; the best trivial system's value as a dashed rule.

    The scale ends a little beyond the best value: an interval that goes on is cut there, and squeezes no other.
    """
    chosen = [r for r in rows if r["metric"] == metric and r["context"] == GOLD and r["value"] is not None]
    chosen.sort(key=lambda r: (-r["value"], r["system"]))
    if not chosen:
        return ""
    top = min(1.0, ROOM * max(r["value"] for r in chosen)) or 1.0
    rival = max((r["value"] for r in chosen if r["system"].startswith(TRIVIAL_PREFIX)), default=None)
    body = "".join(_forest_row(r, top, rival) for r in chosen)
    cut = any((r["high"] or 0.0) > top for r in chosen)
    legend = (
        '<p class="legend"><span><i class="key own"></i>system</span>'
        '<span><i class="key trivial"></i>trivial; dashed: the best of them</span>'
        f"{'<span>an interval at the right edge goes on beyond it</span>' if cut else ''}</p>"
    )
    return f'<figure><figcaption>{escape(title)}</figcaption>{legend}<div class="forest">{body}</div></figure>'


def _forest_row(row: Row, top: float, rival: float | None) -> str:
    kind = " trivial" if row["system"].startswith(TRIVIAL_PREFIX) else ""
    at = 100 * row["value"] / top
    shapes = ['<rect class="track" x="0" y="0" width="100" height="10"/>']
    if rival is not None:
        shapes.append(f'<line class="rule" x1="{100 * rival / top:.2f}" x2="{100 * rival / top:.2f}" y1="0" y2="10"/>')
    if row["low"] is not None:
        low, high = (100 * min(max(row[end] / top, 0.0), 1.0) for end in ("low", "high"))
        shapes.append(f'<line class="line{kind}" x1="{low:.2f}" x2="{high:.2f}" y1="5" y2="5"/>')
    shapes.append(f'<rect class="dot{kind}" x="{max(at - 0.5, 0):.2f}" y="1.5" width="1" height="7"/>')
    name = f'<span class="name{" trivial-name" if kind else ""}">{escape(row["system"])}</span>'
    return (
        f'{name}<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img"><title>{escape(row["system"])}: '
        f'{row["value"]:.3f}</title>{"".join(shapes)}</svg><span class="value">{scored(row)}</span>'
    )
