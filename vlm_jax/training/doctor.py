"""Reads the goodput ledger of a work directory and names what holds the run up, with evidence and what to change."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from etils import epath

from vlm_jax.errors import UserError
from vlm_jax.training.goodput import DIRECTORY, PHASES
from vlm_jax.training.symptoms import RULES, Finding

CATEGORIES = ("init", "restore", "compile", "data_wait", "step", "save", "evaluation", "wasted")
_LAP_PARTS = ("data_wait", "dispatch", "await", "host", "rows", "read", "decode", "prepare", "awaited")
FEWEST_STEPS = 10


@dataclass
class ProcessTimes:
    """One process's ledger, added up.

    Attributes:
      facts: of the last start.
      compiled: of the last compilation.
      seconds: by CATEGORIES; what is wasted is in no other.
      rows: seconds of each row of each phase.
      laps: sums over the laps that were not wasted: steps, seconds and their parts.
      starts, status: how often the run was started, and how the last one ended ("" while it runs, or was killed).
      step: the last step.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    compiled: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CATEGORIES, 0.0))
    rows: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PHASES})
    laps: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*_LAP_PARTS, "steps", "seconds"), 0.0))
    starts: int = 0
    status: str = ""
    step: int = 0

    @property
    def total(self) -> float:
        """Seconds in all."""
        return sum(self.seconds.values())

    def typical(self, phase: str) -> float:
        """Seconds that the phase would have taken if each of its rows had taken what the middle one took."""
        rows = self.rows[phase]
        return statistics.median_low(rows) * len(rows) if rows else 0.0


def read_ledger(workdir: epath.Path) -> list[ProcessTimes]:
    """The times of every process of the last start, in their order; an earlier one may have had more.

    Raises:
      UserError: there is no ledger.
    """
    folder = workdir / DIRECTORY
    files = sorted(folder.glob("*.jsonl"), key=lambda path: int(path.stem)) if folder.exists() else []
    if not files:
        raise UserError(f"no ledger in '{workdir}': expected the --workdir of a run that `vlm-jax train` has started")
    times = [add_up(_rows(path.read_text())) for path in files]
    return times[: times[0].facts.get("processes", len(times))]


def _rows(text: str) -> list[dict[str, Any]]:
    """Every whole row; a line that a kill has torn is left out."""
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and "row" in row:
            rows.append(row)
    return rows


def add_up(rows: list[dict[str, Any]]) -> ProcessTimes:
    """Adds up one process's rows. A lap past the step that a later start goes on from was wasted."""
    times, laps = ProcessTimes(), []
    for row in rows:
        kind = row["row"]
        if kind == "start":
            times.facts, times.status, times.starts = row, "", times.starts + 1
        if kind in ("start", "rollback"):
            laps = [part for lap in laps for part in _cut(lap, row["step"], times)]
        elif kind == "lap":
            laps.append(row)
        elif kind == "phase":
            times.seconds[row["phase"]] += row["seconds"]
            times.rows[row["phase"]].append(row["seconds"])
            if row["phase"] == "compile":
                times.compiled = row
        elif kind == "end":
            times.status, times.step = row["status"], row["step"]
    for lap in laps:
        for part in times.laps:
            times.laps[part] += lap.get(part, 0)
    times.step = max([times.step, *(lap["step"] for lap in laps)])
    times.seconds["data_wait"] = times.laps["data_wait"]
    times.seconds["step"] = times.laps["seconds"] - times.laps["data_wait"]
    return times


def _cut(lap: dict[str, Any], step: int, times: ProcessTimes) -> list[dict[str, Any]]:
    """What is left of a lap when the run goes back to `step`; the rest was wasted."""
    lost = min(max(lap["step"] - step, 0) / lap["steps"], 1.0)
    times.seconds["wasted"] += lost * lap["seconds"]
    if lost == 1.0:
        return []
    scaled = {part: lap[part] * (1 - lost) for part in (*_LAP_PARTS, "steps", "seconds") if part in lap}
    return [lap | scaled | {"step": min(lap["step"], step)}]


def diagnose(workdir: epath.Path) -> dict[str, Any]:
    """The report as plain JSON values.

    Keys: name, status, step, steps, starts, processes, seconds {category: s}, shares, goodput (the share of `step`),
    steady {of the laps: seconds_per_step, examples_per_second, shares of data_wait, dispatch, await and host, and
    milliseconds a record of read, decode and prepare}, findings [{name, share, evidence, change}], the largest first,
    and bottleneck, the first one's name or null. `note` says why where it is too early to judge.

    Raises:
      UserError: there is no ledger.
    """
    processes = read_ledger(workdir)
    first = processes[0]
    report: dict[str, Any] = {
        "name": first.facts.get("name", ""),
        "status": first.status or "running, or killed",
        "step": first.step,
        "steps": first.facts.get("steps", 0),
        "starts": first.starts,
        "processes": len(processes),
        "seconds": {name: round(value, 2) for name, value in first.seconds.items()},
        "shares": {name: round(value / max(first.total, 1e-9), 4) for name, value in first.seconds.items()},
        "goodput": round(first.seconds["step"] / max(first.total, 1e-9), 4),
        "steady": _steady(first),
        "note": "",
    }
    findings: list[Finding] = []
    if first.laps["steps"] < FEWEST_STEPS:
        report["note"] = f"{first.laps['steps']:.0f} steps are too few to judge; come back after {FEWEST_STEPS}"
    else:
        findings = sorted((f for rule in RULES if (f := rule(processes))), key=lambda f: -f.share)
    report["findings"] = [asdict(finding) for finding in findings]
    report["bottleneck"] = findings[0].name if findings else None
    return report


def _steady(times: ProcessTimes) -> dict[str, float]:
    laps = times.laps
    seconds, rows = max(laps["seconds"], 1e-9), max(laps["rows"], 1)
    per_step = seconds / max(laps["steps"], 1)
    out = {
        "seconds_per_step": round(per_step, 4),
        "examples_per_second": round(times.facts.get("batch_size", 0) / per_step, 2),
    }
    out |= {part: round(laps[part] / seconds, 4) for part in ("data_wait", "dispatch", "await", "host")}
    return out | {f"{part}_ms": round(1000 * laps[part] / rows, 3) for part in ("read", "decode", "prepare")}
