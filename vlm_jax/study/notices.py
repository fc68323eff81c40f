"""What a reader of a study's results must know of its data: said by its runs, and of patients of two sources."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

from vlm_jax.data.files import read_json
from vlm_jax.evaluation.units import counted
from vlm_jax.study.jobs import SUMMARY
from vlm_jax.study.plan import Plan
from vlm_jax.study.variants import Variant

SHOWN = 3
_NUMBER = re.compile(r"(?<!\w)\d+(?!\w)")  # by itself: those of names tell sources apart


def notices_of(plan: Plan, variant: Variant) -> list[str]:
    """A line each: of all trained systems or of some, which are named; of those alike but for numbers the largest.

    Runs of before summaries had notices say nothing.
    """
    said: dict[str, str] = {}
    owners: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    trained = [job for job in plan.jobs() if job.variant is variant and job.system.trained]
    for job in trained:
        file = job.folder / SUMMARY
        for notice in read_json(file).get("notices", ()) if file.is_file() else ():
            key = _NUMBER.sub("#", notice)
            said[key] = max(said.get(key, notice), notice, key=_numbers)
            owners[key][job.system.shown] += 1
    everyone = {job.system.shown for job in trained}
    lines = shared_patients(variant)
    for key, notice in said.items():
        names, runs = list(owners[key]), sum(owners[key].values())
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        who = "" if set(names) == everyone else f"{', '.join(names[:SHOWN])}{more}: "
        lines.append(f"{who}{notice}" + (f" (so or alike in {counted(runs, 'run')})" if runs > 1 else ""))
    return lines


def _numbers(notice: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(notice)]


def shared_patients(variant: Variant) -> list[str]:
    """Groups of one name in two sources, of which one is tested on while the other is trained on, a line a pair.

    Folds are drawn for each source by itself, and a name may mean two people: it is said, and nothing is stopped.
    """
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for fold in variant.folds:
        split_of = {
            source: {group: split for split, groups in json.loads(Path(file).read_text()).items() for group in groups}
            for source, file in fold
        }
        for a, first in split_of.items():
            for b, second in split_of.items():
                crossing = {g for g in first if first[g] == "test" and second.get(g, "test") != "test"}
                found[min(a, b), max(a, b)] |= crossing
    return [
        f"{a} and {b} share {counted(len(names), 'group')} of one name ('{min(names)}'), tested on in one while "
        "trained on in the other: if they are the same people, divide both by fold_files"
        for (a, b), names in found.items()
        if names
    ]
