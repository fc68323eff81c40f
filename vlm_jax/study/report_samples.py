"""Sample frames of a study with the sentences of several systems beside the true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from vlm_jax.contract import TEXT_TASKS
from vlm_jax.data.store import Dataset, open_dataset
from vlm_jax.evaluation.report_samples import card, marked, pick
from vlm_jax.evaluation.run import PREDICTIONS
from vlm_jax.study.plan import Plan
from vlm_jax.study.scores import VariantScores
from vlm_jax.study.systems import StudySystem
from vlm_jax.study.untrained import read_rows

N_SAMPLES = 6
MOST_OTHERS = 5


def samples_section(plan: Plan, found: VariantScores) -> str:
    """Frames of the first fold: the first system with all tasks in full, the sentences of others below."""
    systems = [s for s in plan.systems if s.trained or s.parent]
    rows = {s.shown: _rows(plan, found, s) for s in systems}
    main = max(systems, key=lambda s: (_tasks(rows[s.shown]), s.name.startswith("base")))
    others = [s.shown for s in systems if s is not main and _tasks(rows[s.shown])]
    sections = []
    for source, datasets in _datasets(found).items():
        cards = []
        for row in pick(list(rows[main.shown].values()), source, N_SAMPLES):
            image = _image(datasets, row["uid"])
            more = _others(row, {name: rows[name].get((row["source"], row["uid"])) for name in others})
            cards.append(card(row, image).removesuffix("</div>") + more + "</div>")
        world = found.variant.worlds[source]
        sections.append(
            f'<section><h2>Sample frames <span class="world">{escape(world)}</span></h2><p class="note">Answers of '
            f"{escape(main.shown)} on fold 0, seed {plan.study.seeds[0]}, then of others; words that differ from the "
            "truth are marked.</p>"
            f'<div class="cards">{"".join(cards)}</div></section>'
        )
    return "".join(sections)


def _datasets(found: VariantScores) -> dict[str, list[Dataset]]:
    """{source: its data sets}."""
    out: dict[str, list[Dataset]] = {}
    for dataset in map(open_dataset, found.variant.paths):
        out.setdefault(dataset.info.source, []).append(dataset)
    return out


def _image(datasets: Sequence[Dataset], uid: str) -> bytes | None:
    """The frame's file, None where there is none (a note)."""
    for dataset in datasets:
        if len(rows := np.flatnonzero(dataset.frames.uid == uid)):
            return dataset.read_image(int(rows[0]))
    return None


Key = tuple[str, str]


def _rows(plan: Plan, found: VariantScores, system: StudySystem) -> dict[Key, dict[str, Any]]:
    job = plan.job(found.variant, system, 0, plan.study.seeds[0])
    return {(row["source"], row["uid"]): row for row in read_rows(job.results / PREDICTIONS)}


def _tasks(rows: Mapping[Key, Mapping[str, Any]]) -> int:
    """How many text tasks a system has answered."""
    return int(np.sum([any(task in row for row in rows.values()) for task in TEXT_TASKS]))


def _others(row: Mapping[str, Any], others: Mapping[str, Mapping[str, Any] | None]) -> str:
    parts = []
    for task in (t for t in TEXT_TASKS if t in row):
        said = [(name, of[task]) for name, of in others.items() if of is not None and task in of]
        lines = "".join(_line(name, of) for name, of in _spread(said))
        parts.append(
            f"<details><summary>{task}: {len(said)} other systems</summary><dl>{lines}</dl></details>" if said else ""
        )
    return "".join(parts)


def _line(name: str, said: Mapping[str, Any]) -> str:
    return f"<dt>{escape(name)}</dt><dd>{marked(said['predicted'], said['true'] or '')}</dd>"


def _spread(said: Sequence[tuple[str, Any]]) -> Sequence[tuple[str, Any]]:
    """At most so many, evenly over the table."""
    if len(said) <= MOST_OTHERS:
        return said
    return [said[(2 * i + 1) * len(said) // (2 * MOST_OTHERS)] for i in range(MOST_OTHERS)]
