"""The report's plots: HTML for the words, so that they stay readable on a phone, and inline SVG for the shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from vlm_jax.evaluation.intervals import Estimate
from vlm_jax.metrics.classification import average_precision, precision_recall_curve

MAX_CURVE_POINTS = 200


@dataclass(frozen=True)
class Bar:
    """One class: its F1 (0-1, None = undefined), its prevalence and the trivial F1."""

    name: str
    f1: Estimate
    prevalence: float | None
    trivial: float | None


def bars(rows: Sequence[Bar], title: str, trivial_name: str) -> str:
    """Horizontal bars, the best class first; undefined ones last, without a bar."""
    ordered = sorted(rows, key=lambda b: (b.f1.value is None, -(b.f1.value or 0.0), b.name))
    legend = (
        '<p class="legend"><span><i class="key own"></i>F1 of the model, 95 % interval</span>'
        f'<span><i class="key trivial"></i>{escape(trivial_name)}</span>'
        '<span><i class="key share"></i>prevalence</span></p>'
    )
    body = "".join(_bar(b) for b in ordered)
    return f'<figure class="bars"><figcaption>{escape(title)}</figcaption>{legend}{body}</figure>'


def _bar(bar: Bar) -> str:
    value, low, high = bar.f1.value, bar.f1.low, bar.f1.high
    shapes = ['<rect class="track" x="0" y="0" width="100" height="10"/>']
    if value is not None:
        shapes.append(f'<rect class="own" x="0" y="1.5" width="{100 * value:.2f}" height="7"/>')
    if low is not None and high is not None:
        width = max(100 * (high - low), 0.3)
        shapes.append(f'<rect class="interval" x="{100 * low:.2f}" y="4.2" width="{width:.2f}" height="1.6"/>')
    for kind, at in (("trivial", bar.trivial), ("share", bar.prevalence)):
        if at is not None:
            shapes.append(f'<rect class="{kind}" x="{max(100 * at - 0.4, 0):.2f}" y="0" width="0.8" height="10"/>')
    said = "undefined: no positive" if value is None else f"{value:.2f}"
    hint = f"{bar.name}: F1 {said}, prevalence {number(bar.prevalence)}, trivial {number(bar.trivial)}"
    return (
        f'<div class="bar"><span class="name">{escape(bar.name)}</span>'
        f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img"><title>{escape(hint)}</title>'
        f'{"".join(shapes)}</svg><span class="value">{number(value)}</span></div>'
    )


def curves(classes: dict[str, tuple[np.ndarray, np.ndarray]], thresholds: dict[str, float | None], title: str) -> str:
    """Precision over recall, one small plot a class; dashed: the prevalence, dot: the threshold in use, if any.

    Args:
      thresholds: by class; {} where each fold has its own.
    """
    plots = [_curve(name, score, truth, thresholds.get(name)) for name, (score, truth) in classes.items()]
    dot = '<span><i class="key dot"></i>threshold in use</span>' if thresholds else ""
    return (
        f'<figure class="curves"><figcaption>{escape(title)}</figcaption>'
        '<p class="legend"><span>recall to the right, precision upwards</span>'
        f'<span><i class="key dash"></i>prevalence</span>{dot}</p>'
        f'<div class="grid">{"".join(plots)}</div></figure>'
    )


def _curve(name: str, score: np.ndarray, truth: np.ndarray, threshold: float | None) -> str:
    precision, recall, _ = precision_recall_curve(score, truth)
    keep = np.unique(np.linspace(0, len(recall) - 1, min(len(recall), MAX_CURVE_POINTS)).round().astype(int))
    points = [(0.0, float(precision[0])), *zip(recall[keep].tolist(), precision[keep].tolist(), strict=True)]
    path = " ".join(f"{100 * r:.1f},{100 * (1 - p):.1f}" for r, p in points)
    share = 100 * (1 - float(np.mean(truth)))
    dot = ""
    if threshold is not None and (chosen := score >= threshold).any():
        x, y = float((truth & chosen).sum() / truth.sum()), float(truth[chosen].mean())
        dot = f'<circle cx="{100 * x:.1f}" cy="{100 * (1 - y):.1f}" r="3.2"/>'
    ap = float(average_precision(score, truth)[0])
    return (
        f'<div class="curve"><svg viewBox="-2 -2 104 104" role="img"><title>{escape(name)}: average precision {ap:.2f}'
        '</title><rect class="frame" x="0" y="0" width="100" height="100"/>'
        f'<line class="dash" x1="0" x2="100" y1="{share:.1f}" y2="{share:.1f}"/><polyline points="{path}"/>{dot}</svg>'
        f"<span>{escape(name)}<br><b>AP {ap:.2f}</b></span></div>"
    )


def number(value: float | None) -> str:
    """Two decimals, a dash where undefined."""
    return "–" if value is None else f"{value:.2f}"
