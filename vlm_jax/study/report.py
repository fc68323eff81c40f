"""report.html of a study: one file that needs nothing else and opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import vlm_jax
from vlm_jax.contract import is_simulated
from vlm_jax.data.store import open_dataset
from vlm_jax.evaluation.report_style import STYLE
from vlm_jax.evaluation.units import UNIT_NAMES, counted
from vlm_jax.study.contrasts import Contrast
from vlm_jax.study.plan import Plan
from vlm_jax.study.report_answers import answers_section
from vlm_jax.study.report_runs import compute_table, coverage_table, learning_curves
from vlm_jax.study.report_samples import samples_section
from vlm_jax.study.report_style import STUDY_STYLE
from vlm_jax.study.report_tables import class_table, context_table, contrast_table, forest, score_table
from vlm_jax.study.scores import Row, VariantScores

TASKS = {
    "landmarks": "Landmarks in view",
    "describe": "Description of the current activity",
    "anticipate": "Description of the next activity",
    "report": "Next sentence of the report",
}
MAIN_METRIC = {"landmarks": "f1_macro", "describe": "bleu2", "anticipate": "bleu2", "report": "bleu2"}

ESTIMAND = """What each score estimates: what a system that is trained by this recipe on the other folds' procedures
scores on the units of a new procedure of the same kind, a ratio of sums over all units (macro scores: the mean of such
ratios over classes), averaged over the training seeds. Every unit is answered once, by the run that did not see its
group; the answers of all folds are pooled before the metric is computed. Intervals are 95 % BCa bootstrap intervals
over whole groups (patients or procedures), seeds averaged inside and their chance added by Student's t. None is given
under six groups, nor for a class that is present in fewer than six. All systems share the resamples of groups:
differences are paired."""
ONE_SEED = """One training seed: intervals are of these trained systems, not of their recipes, and there are no
verdicts. Another training of the same recipe may differ by more than the margins; with several seeds the intervals hold
that, too."""
READING = """Thresholds of each fold are chosen on its validation groups. BLEU-2 is corpus BLEU on a 0-1 scale, ROUGE-L
its F1. Trivial scores are systems of their own, fitted on each fold's training groups. "gold": the true earlier texts
are given; "rolled out": the system's own; "empty": none. A ceiling is what the state of the scene, or the inputs of the
task, would allow at best; none is shown where the data set does not say. Average precision (and map, its mean over
classes) compares only scores of one fold, which are one model's, and is the mean over folds weighted by their
positives: how one model ranks the frames of new procedures, not whether the models of all folds share a scale. A
constant answer has the prevalence of each fold so, in the mean a little more than that of all frames. "shuffled/" is
the floor of the cosine beside it: what the system's own sentences score where they are dealt to wrong units."""


def study_html(
    plan: Plan, scores: Sequence[VariantScores], contrasts: Sequence[Contrast], coverage: Sequence[Mapping[str, Any]]
) -> str:
    """The page as one string."""
    worlds = list(dict.fromkeys(world for found in scores for world in found.variant.worlds.values()))
    kind = "simulated data" if all(map(is_simulated, worlds)) else ", ".join(worlds)
    title = f"Study {plan.study.name}: {len(plan.systems) - 1} systems – {kind}"
    parts = [_intro(plan, scores), contrast_table(contrasts), *(_variant(plan, found) for found in scores)]
    parts += [_runs(plan, scores), coverage_table(coverage), _footer(plan)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{STUDY_STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f"{''.join(parts)}</main></body></html>\n"
    )


def _intro(plan: Plan, scores: Sequence[VariantScores]) -> str:
    folds, seeds = len(plan.variants[0].folds), len(plan.study.seeds)
    about = "; ".join(line for found in scores for line in _data_lines(found))
    links = [("contrasts", "Primary contrasts")]
    links += [
        (_anchor(found, *scope), f"{TASKS[scope[1]]}{_where(scores, found)}")
        for found in scores
        for scope in found.units
    ]
    links += [("runs", "Runs and cost"), ("coverage", "How sure the intervals are")]
    nav = "".join(f'<a href="#{escape(anchor)}">{escape(text)}</a>' for anchor, text in links)
    shape = ", ".join(
        (
            f"{counted(folds, 'fold')} by group",
            counted(seeds, "training seed"),
            f"{counted(len(plan.study.trials), 'tuning trial')} a system, chosen by validation loss",
        )
    )
    alone = f'<p class="note">{escape(ONE_SEED)}</p>' if seeds == 1 else ""
    return (
        f'<p class="lead">{escape(about)}. {shape}. Scores at reduced width (@tiny) say '
        f'nothing of the published systems.</p>{alone}{_notices(scores)}<nav class="toc">{nav}</nav>'
        f"<details><summary>What a score estimates, and how to read it</summary><p>{escape(ESTIMAND)}</p>"
        f"<p>{escape(READING)}</p></details>"
    )


def _notices(scores: Sequence[VariantScores]) -> str:
    said = [f"{line}{_where(scores, found)}" for found in scores for line in found.notices]
    return f'<p class="note">{escape(". ".join(said))}.</p>' if said else ""


def _data_lines(found: VariantScores) -> list[str]:
    """What the data are: source, world, how many units of what, who made them."""
    lines = []
    infos = (open_dataset(path).info for path in found.variant.paths)
    for info in {info.source: info for info in infos}.values():
        units = [
            counted(len(keys), UNIT_NAMES[task])
            for (source, task), keys in found.units.items()
            if source == info.source
        ]
        sizes = ", ".join(dict.fromkeys(units))
        lines.append(f"{info.source} ({info.full_world}): {sizes}")
    return lines


def _where(scores: Sequence[VariantScores], found: VariantScores) -> str:
    return f" ({found.variant.name})" if len(scores) > 1 else ""


def _anchor(found: VariantScores, source: str, task: str) -> str:
    return f"{found.variant.name}-{source}-{task}".replace(" ", "-")


def _variant(plan: Plan, found: VariantScores) -> str:
    parts = []
    for source, task in found.units:
        rows = [row for row in found.rows if (row["source"], row["task"]) == (source, task)]
        parts.append(_task(found, source, task, rows))
    return "".join(parts) + samples_section(plan, found)


def _task(found: VariantScores, source: str, task: str, rows: Sequence[Row]) -> str:
    world = found.variant.worlds[source]
    size = counted(len(found.units[source, task]), UNIT_NAMES[task])
    main, missing = MAIN_METRIC[task], "".join(f" {note}." for note in found.notes[source, task])
    parts = [
        f'<section id="{escape(_anchor(found, source, task))}"><h2>{TASKS[task]} <span class="world">{escape(world)}'
        f'</span></h2><p class="note">{escape(source)}: {size}, pooled out of fold.{escape(missing)}</p>',
        forest(rows, main, f"{main}, {source} ({world}), 95 % intervals over groups"),
        score_table(rows, task),
        context_table(rows, main),
    ]
    if task == "landmarks":
        parts.append(class_table(rows, f"F1 by landmark, {source} ({world})"))
    parts.append(answers_section(found, source, task))
    return "".join(parts) + "</section>"


def _runs(plan: Plan, scores: Sequence[VariantScores]) -> str:
    return (
        '<section id="runs"><h2>Runs and cost</h2>'
        '<p class="note">Same data, same folds, no pre-training unless "started from" says so. Seconds are of training '
        "steps alone; compilation, validation and scoring are not in them, and other work on the machine is.</p>"
        f"{compute_table(plan)}{learning_curves(plan, scores)}</section>"
    )


def _footer(plan: Plan) -> str:
    settings = "\n".join(plan.study.settings)
    return (
        f"<footer><p>vlm_jax {escape(vlm_jax.__version__)}. Settings of all runs, NAME: of one system:</p>"
        f"<pre>{escape(settings)}</pre></footer>"
    )
