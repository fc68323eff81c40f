"""How the answers of the systems are: curves, calibration, risk over coverage, confusion and co-occurrence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from vlm_jax.evaluation.report_plots import curves
from vlm_jax.metrics.generation import rouge_l
from vlm_jax.study.pool import GOLD, TRIVIAL_PREFIX, FrameAnswers, TextAnswers
from vlm_jax.study.scores import VariantScores

ALL_FOLDS = "scores of all folds in one ranking, where the table's map compares those of one fold"
BINS = 10
POINTS = 100


def answers_section(found: VariantScores, source: str, task: str) -> str:
    """Figures of one task of one source, from the first training seed, a fold-out block a system."""
    systems = {name: seeds[0][source, task] for name, seeds in found.pooled.items() if (source, task) in seeds[0]}
    keys = found.units[source, task]
    first = "; of the first training seed" if any(len(seeds) > 1 for seeds in found.pooled.values()) else ""
    if task != "landmarks":
        risks = {name: curve for name, a in systems.items() if (curve := text_risk(a, keys))}
        surest = "Risk over coverage: 1 - ROUGE-L of the share of sentences that the system is surest of"
        return plots(risks, f"{surest}{first}")
    trained = {name: a for name, a in systems.items() if not name.startswith(TRIVIAL_PREFIX)}
    arrays = {name: frame_arrays(a, keys) for name, a in trained.items()}
    parts = [
        plots(
            {n: frame_risk(*a) for n, a in arrays.items()},
            f"Risk over coverage: errors among the surest decisions{first}",
        ),
        calibration(arrays, first),
    ]
    for i, (name, (score, chosen, truth, known)) in enumerate(arrays.items()):
        classes = systems[name].classes
        defined = np.any(truth & known, axis=0)
        pairs = {n: (score[known[:, c], c], truth[known[:, c], c]) for c, n in enumerate(classes) if bool(defined[c])}
        world = found.variant.worlds[source]
        title = f"Precision and recall by landmark, {name}, {source} ({world}); {ALL_FOLDS}{first}"
        inside = curves(pairs, {}, title)
        inside += heatmaps(classes, truth & known, chosen & known)
        opened = " open" if i == 0 else ""
        summary = f"{escape(name)}: precision and recall, co-occurrence, confusion"
        parts.append(f"<details{opened}><summary>{summary}</summary>{inside}</details>")
    return "".join(parts)


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def frame_arrays(answers: FrameAnswers, keys: Sequence[str]) -> Arrays:
    """(scores float[U, C], chosen, truth, known bool[U, C]) under gold contexts."""
    score, chosen = (np.stack([of[GOLD][key] for key in keys]) for of in (answers.scores, answers.chosen))
    truth, known = (np.stack([answers.units[key][i] for key in keys]) for i in (1, 2))
    return score, chosen, truth, known


# --- Risk over coverage ----------------------------------------------------------------------------------------------


def risk_curve(confidence: np.ndarray, loss: np.ndarray) -> list[tuple[float, float]]:
    """(coverage, mean loss of that share of the units, the surest first); Geifman and El-Yaniv 2017."""
    order = np.argsort(-confidence, kind="stable")
    risk = np.cumsum(loss[order]) / np.arange(1, len(order) + 1)
    keep = np.unique(np.linspace(0, len(order) - 1, min(len(order), POINTS)).round().astype(int))
    return [((i + 1) / len(order), float(risk[i])) for i in keep.tolist()]


def frame_risk(
    score: np.ndarray, chosen: np.ndarray, truth: np.ndarray, known: np.ndarray
) -> list[tuple[float, float]]:
    """Decisions (frame x class) by how far the probability lies from one half."""
    return risk_curve(np.abs(score - 0.5)[known], (chosen != truth)[known].astype(float))


def text_risk(answers: TextAnswers, keys: Sequence[str]) -> list[tuple[float, float]] | None:
    """Sentences by the mean log-probability of their tokens; None where the system has no such score."""
    if any(key not in answers.confidence for key in keys):
        return None
    loss = [1 - rouge_l(answers.texts[GOLD][key], answers.units[key][1]) for key in keys]
    return risk_curve(np.array([answers.confidence[key] for key in keys]), np.array(loss))


def plots(found: Mapping[str, Sequence[tuple[float, float]]], title: str) -> str:
    """Small multiples on one scale: coverage to the right, risk upwards; the number is the risk of all."""
    if not found:
        return ""
    top = max(max(r for _, r in curve) for curve in found.values()) or 1.0
    body = []
    for name, curve in found.items():
        points = " ".join(f"{100 * c:.1f},{100 - 100 * r / top:.1f}" for c, r in curve)
        area = float(np.mean([r for _, r in curve]))
        body.append(small(name, f'<polyline points="{points}"/>', f"all {curve[-1][1]:.2f}, mean {area:.2f}"))
    grid = f'<div class="grid">{"".join(body)}</div>'
    return f'<figure class="curves"><figcaption>{escape(title)}</figcaption>{grid}</figure>'


def small(name: str, shapes: str, value: str) -> str:
    """One small plot with its name below."""
    return (
        f'<div class="curve"><svg viewBox="-2 -2 104 104" role="img"><title>{escape(name)}: {escape(value)}</title>'
        f'<rect class="frame" x="0" y="0" width="100" height="100"/>{shapes}</svg>'
        f"<span>{escape(name)}<br><b>{escape(value)}</b></span></div>"
    )


# --- Calibration -----------------------------------------------------------------------------------------------------


def calibration_bins(score: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean score, share of positives, share of decisions) of ten bins of equal width; empty bins are left out."""
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    n = np.bincount(place, minlength=BINS).astype(float)
    kept = n > 0
    mean = np.bincount(place, score, BINS)[kept] / n[kept]
    share = np.bincount(place, truth.astype(float), BINS)[kept] / n[kept]
    return mean, share, n[kept] / n.sum()


def calibration_error(score: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error (Naeini et al. 2015) over ten bins of equal width."""
    mean, share, weight = calibration_bins(score, truth)
    return float((weight * np.abs(mean - share)).sum())


def calibration(arrays: Mapping[str, Arrays], of: str = "") -> str:
    """Reliability of the pooled probabilities, before any threshold."""
    body = []
    for name, (score, _, truth, known) in arrays.items():
        p, t = score[known], truth[known]
        mean, share, weight = calibration_bins(p, t)
        dots = "".join(
            f'<circle cx="{100 * m:.1f}" cy="{100 - 100 * s:.1f}" r="{1.5 + 5 * w**0.5:.1f}"/>'
            for m, s, w in zip(mean, share, weight, strict=True)
        )
        line = '<line class="dash" x1="0" y1="100" x2="100" y2="0"/>'
        brier = float(((p - t) ** 2).mean())
        body.append(small(name, line + dots, f"ECE {calibration_error(p, t):.3f}, Brier {brier:.3f}"))
    note = "mean probability to the right, share of positives upwards; the larger a dot, the more decisions"
    return (
        f'<figure class="curves"><figcaption>Calibration of landmark probabilities{of}</figcaption>'
        f'<p class="legend">{note}</p><div class="grid">{"".join(body)}</div></figure>'
    )


# --- Which with which ------------------------------------------------------------------------------------------------


def co_occurrence(labels: np.ndarray) -> np.ndarray:
    """float[C, C]: share of the units with row class that have the column class, too; nan in empty rows."""
    both = labels.T.astype(float) @ labels.astype(float)
    own = np.diag(both)[:, None]
    return np.divide(both, own, out=np.full(both.shape, np.nan), where=own > 0)


def confusion(truth: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """float[C, C]: where the row class is there and missed, the share in which the column class is a false alarm."""
    missed, alarm = (truth & ~chosen).astype(float), (chosen & ~truth).astype(float)
    n = missed.sum(axis=0)[:, None]
    return np.divide(missed.T @ alarm, n, out=np.full((truth.shape[1],) * 2, np.nan), where=n > 0)


def heatmaps(classes: Sequence[str], truth: np.ndarray, chosen: np.ndarray) -> str:
    """Three maps: co-occurrence in truth and in the predictions, and what stands in for what is missed."""
    maps = (
        ("Together, true: of frames with the row's landmark, the share with the column's", co_occurrence(truth)),
        ("Together, predicted", co_occurrence(chosen)),
        (
            "Confused: where the row's was missed, the share with a false alarm of the column's",
            confusion(truth, chosen),
        ),
    )
    return f'<div class="maps">{"".join(_heatmap(classes, *one) for one in maps)}</div>'


def _heatmap(classes: Sequence[str], title: str, values: np.ndarray) -> str:
    side, left = 100 / len(classes), 44
    shapes = []
    for i, name in enumerate(classes):
        y = 6 + i * side
        shapes.append(f'<text x="{left - 1}" y="{y + 0.7 * side:.1f}" text-anchor="end">{i + 1} {escape(name)}</text>')
        shapes.append(f'<text x="{left + (i + 0.5) * side:.1f}" y="4.5" text-anchor="middle">{i + 1}</text>')
        for j, value in enumerate(values[i].tolist()):
            if value != value or value < 0.005:
                continue
            shapes.append(
                f'<rect x="{left + j * side:.2f}" y="{y:.2f}" width="{side:.2f}" height="{side:.2f}" fill="#0f766e" '
                f'fill-opacity="{value:.2f}"/>'
            )
    frame = f'<rect class="frame" x="{left}" y="6" width="100" height="100"/>'
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {left + 101} 107" role="img">'
        f"<title>{escape(title)}</title>{''.join(shapes)}{frame}</svg></figure>"
    )
