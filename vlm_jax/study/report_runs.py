"""What the runs cost and how they learned, and how often the intervals hold the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vlm_jax.data.files import read_json
from vlm_jax.study.jobs import SUMMARY, training_rows, trial_folder
from vlm_jax.study.plan import Job, Plan
from vlm_jax.study.report_answers import small
from vlm_jax.study.report_tables import table
from vlm_jax.study.scores import VariantScores

NOMINAL = 0.95
NONE = "–"


def compute_table(plan: Plan) -> str:
    """One line a trained system, over all its runs."""
    lines = []
    for system in (s for s in plan.systems if s.trained):
        runs = [read_json(job.folder / SUMMARY) for job in plan.jobs() if job.system.name == system.name]
        first = runs[0]
        fitted = system.init == "counts"  # once, from all records: no steps and no batches
        seconds = None if fitted else sum(run["seconds_of_steps"] for run in runs)
        examples = sum(
            run["training_records"] if fitted else run["steps"] * run["batch_size"] * run["trials"] for run in runs
        )
        numbers = (
            f"{first['parameters']:,}",
            escape(system.init),
            str(len(runs)),
            str(first["trials"]),
            NONE if fitted else f"{first['steps']:,}",
            NONE if fitted else str(first["batch_size"]),
            f"{first['image_size']}",
            f"{examples:,}",
            NONE if seconds is None else _time(seconds),
            NONE if fitted else ", ".join(dict.fromkeys(str(run["best_step"]) for run in runs)),
        )
        cells = "".join(f"<td>{n}</td>" for n in numbers)
        lines.append(f"<tr><td>{escape(system.shown)}</td>{cells}</tr>")
    head = ("system", "parameters", "started from", "runs", "trials", "steps", "batch", "pixels", "examples seen")
    return table((*head, "time in steps", "best steps"), lines)


def _time(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 3600
        else f"{seconds / 60:.1f} min"
        if seconds >= 60
        else f"{seconds:.1f} s"
    )


def learning_curves(plan: Plan, scores: Sequence[VariantScores]) -> str:
    """Training and validation loss of the first fold and seed, as shares of the first training loss."""
    body, variant, seed = [], scores[0].variant, plan.study.seeds[0]
    where = f", {escape(variant.name)}" if len(scores) > 1 else ""
    for system in (s for s in plan.systems if s.trained):
        job = plan.job(variant, system, 0, seed)
        training, validation = losses(job)
        if len(training) > 1:
            body.append(_curve(system.shown, training, validation))
    note = (
        '<p class="legend"><span>steps to the right, loss upwards as a share of the first</span>'
        '<span><i class="key own"></i>training</span><span><i class="key dash"></i>validation</span></p>'
    )
    return (
        f'<figure class="curves"><figcaption>Learning curves, fold 0, seed {seed}{where}</figcaption>{note}'
        f'<div class="grid">{"".join(body)}</div></figure>'
    )


Curve = list[tuple[int, float]]


def losses(job: Job) -> tuple[Curve, Curve]:
    """(step, loss) of training and of validation, of the trial that was chosen."""
    training: Curve = []
    validation: Curve = []
    file = job.folder / SUMMARY
    for row in training_rows(trial_folder(job, read_json(file)["factor"])) if file.is_file() else ():
        for curve, key in ((training, "loss"), (validation, "validation/loss")):
            if row.get(key) is not None:
                curve.append((row["step"], row[key]))
    return training, validation


def _curve(name: str, training: Curve, validation: Curve) -> str:
    last, first = training[-1][0], training[0][1] or 1.0
    shapes = []
    for curve, kind in ((training, ""), (validation, ' class="second"')):
        points = " ".join(f"{100 * s / last:.1f},{100 - 100 * min(max(v / first, 0), 1):.1f}" for s, v in curve)
        shapes.append(f'<polyline{kind} points="{points}"/>')
    return small(name, "".join(shapes), f"{training[-1][1] / first:.2f} after {last} steps")


def coverage_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Simulated coverage by metric, class frequency, number of procedures and method."""
    if not rows:
        return ""
    counts = list(dict.fromkeys(row["procedures"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    found = {(r["metric"], r["frequency"], r["procedures"], r["method"]): r for r in rows}
    lines = []
    for metric, frequency in dict.fromkeys((r["metric"], r["frequency"]) for r in rows):
        cells = "".join(_covered(found[metric, frequency, n, m]) for n in counts for m in methods)
        lines.append(f"<tr><td>{escape(metric)}</td><td>{frequency}</td>{cells}</tr>")
    head = [f"{m.replace('_', ' ')}<br><small>{n} procedures</small>" for n in counts for m in methods]
    repeats = rows[0]["repeats"]
    return (
        '<section id="coverage"><h2>How sure the intervals are</h2><p class="note">Simulated: how often the 95 % '
        f"interval of a study of so many procedures holds the truth of the population that they were drawn from, over "
        f"{repeats} fresh draws (standard error at most {(0.25 / repeats) ** 0.5:.2f} where all gave one); marked "
        "where it is under 0.90. Below it, where the study would give an interval in fewer than all draws, the "
        "share of draws: it gives none of a class that is present in few procedures. Intervals of classes at few "
        "procedures are too narrow: read them so. Of one training: the chance of training, which several seeds add to "
        f"the intervals above, is not in it.</p>{table(('metric', 'class', *head), lines)}</section>"
    )


def _covered(row: Mapping[str, Any]) -> str:
    if row["coverage"] is None:
        return f"<td>{NONE}</td>"
    given = "" if row["given"] == 1 else f"<br><small>in {row['given']:.0%}</small>"
    kind = ' class="worse"' if row["coverage"] < NOMINAL - 0.05 else ""
    return f"<td{kind}>{row['coverage']:.2f}{given}</td>"
