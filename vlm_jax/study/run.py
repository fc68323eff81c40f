"""`study`: data, folds, leaks, runs, then the table, the contrasts, the coverage and the report."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from vlm_jax.config.study import StudyConfig
from vlm_jax.data.files import disk_faults, read_json, to_json, write_bytes
from vlm_jax.errors import UserError
from vlm_jax.evaluation.intervals import MIN_GROUPS
from vlm_jax.study.contrasts import contrasts_of
from vlm_jax.study.coverage import simulate_coverage
from vlm_jax.study.notices import shared_patients
from vlm_jax.study.plan import Plan, make_plan
from vlm_jax.study.report import study_html
from vlm_jax.study.runner import POLL_SECONDS, Runner, claimed, progress_table, say
from vlm_jax.study.same_runs import check_runs
from vlm_jax.study.scores import score_variant
from vlm_jax.study.systems import check_settings
from vlm_jax.study.table import csv_text, latex

SETTINGS, TABLE, LATEX, CONTRASTS, COVERAGE, REPORT = (
    "study.json", "table.csv", "table.tex", "contrasts.json", "coverage.json", "report.html",
)  # fmt: skip
MAY_GROW = ("systems", "seeds", "bootstrap", "coverage", "keep_checkpoints")
"""What may differ between two calls in one work directory without making earlier runs other runs."""


def run_study(study: StudyConfig, workdir: Path, *, runs_only: bool = False) -> int:
    """Does what is left of a study; the exit code: 0 done, 1 where a system failed, 3 preempted and saved.

    With `runs_only` another process writes the table.

    Raises:
      UserError: data or settings that cannot be used, a leak, a work directory of another study.
    """
    check_settings(study)
    _keep_compiled(workdir)
    with disk_faults(workdir, again="run the same command again: finished runs are kept"):
        with _alone(workdir / "data"):
            claim(study, workdir)
            plan = make_plan(study, workdir)
            check_runs(plan)
        for line in (line for variant in plan.variants for line in shared_patients(variant)):
            say(line)
        # From here on: the simulator's ray tracer runs for long, and was optimised.
        jax.config.update("jax_disable_most_optimizations", study.quick_compiler)
        code = Runner(plan).run()
        if code or runs_only:
            return code
        with _alone(workdir / "tables"):
            assemble(plan)
    say(progress_table(plan))
    return 0


def _keep_compiled(workdir: Path) -> None:
    """What XLA compiles for one fold serves the others, and a study that goes on; by machine, for processors differ."""
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled" / platform.node()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def claim(study: StudyConfig, workdir: Path) -> None:
    """Writes study.json, or compares with it.

    Raises:
      UserError: the directory holds a study with other settings, which are named.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / SETTINGS
    now: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(study)))
    if file.is_file():
        then = read_json(file)
        other = [key for key in now if key not in MAY_GROW and then.get(key) != now[key]]
        if other:
            raise UserError(
                f"{workdir} holds a study with another configuration ({', '.join(other)} differ): use the same one, or "
                "another --workdir"
            )
    write_bytes(file, to_json(now, indent=1))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process of this study is at the same."""
    while True:
        with claimed(folder) as mine:
            if mine:
                yield
                return
        time.sleep(POLL_SECONDS)


def assemble(plan: Plan) -> None:
    """Writes the results, each file whole or not at all; table.csv last."""
    start = time.monotonic()
    scores = [score_variant(plan, variant) for variant in plan.variants]
    for found in scores:
        for line in (line for line in found.notices if line not in shared_patients(found.variant)):
            say(f"{found.variant.name}: {line}")
        for (source, task), notes in found.notes.items():
            for note in notes:
                say(f"{found.variant.worlds[source]}, {source}, {task}: {note}")
    contrasts = [contrast for found in scores for contrast in contrasts_of(found)]
    coverage = coverage_rows(plan)
    rows = [row for found in scores for row in found.rows]
    html = study_html(plan, scores, contrasts, coverage)
    contents = {
        CONTRASTS: to_json([c.to_json() for c in contrasts], indent=1),
        LATEX: latex(rows).encode(),
        REPORT: html.encode(),
        TABLE: csv_text(rows).encode(),
    }
    for name, content in contents.items():
        write_bytes(plan.workdir / name, content)
    say(f"pooled and scored in {time.monotonic() - start:.0f} s")


def coverage_rows(plan: Plan) -> list[dict[str, Any]]:
    """The coverage simulation, once; it does not depend on the data, but on the rule by which intervals are given."""
    about = {"repeats": plan.study.coverage, "positive_groups": MIN_GROUPS}
    file = plan.workdir / COVERAGE
    if file.is_file():
        found = read_json(file)
        if all(found.get(key) == value for key, value in about.items()):
            return found["rows"]
    rows = simulate_coverage(plan.study.coverage, say=say) if plan.study.coverage else []
    write_bytes(file, to_json({**about, "rows": rows}, indent=1))
    return rows
