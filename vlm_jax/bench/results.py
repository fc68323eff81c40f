"""A measurement as JSON and as lines for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.bench import machine
from vlm_jax.bench.timing import Seconds, ratio, summary

OURS = "vlm-jax"
FORMAT = "vlm_jax.bench/1"


def result(kind: str, setting: Mapping[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What `vlm-jax bench` writes: the job, its setting, one row a case, and what it was measured on."""
    return {"format": FORMAT, "kind": kind, "setting": dict(setting), "rows": rows, **machine.describe()}


def timed_rows(
    seconds: Mapping[str, Seconds],
    *,
    per_call: float,
    unit: str,
    extra: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """One row a case: seconds a call, `per_call` units a call as a rate, and ours over each peer's.

    Args:
      seconds: name -> timings; ours is named `OURS`, or has a name that begins with it.
      extra: further entries of a case's row.
    """
    rows = []
    for name, values in seconds.items():
        row: dict[str, Any] = {
            "name": name,
            "seconds": summary(values.wall),
            "cpu_seconds": float(np.median(values.cpu)),
        }
        row[unit] = per_call / row["seconds"]["median"]
        if OURS in seconds and not name.startswith(OURS):
            row["ours_over_this"] = ratio(seconds[OURS].wall, values.wall)
        rows.append({**row, **(extra or {}).get(name, {})})
    return rows


def write(found: Mapping[str, Any], path: Path) -> None:
    """One JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(found, indent=1, default=float) + "\n", encoding="utf-8")
    temporary.replace(path)


def lines(found: Mapping[str, Any]) -> list[str]:
    """The rows for a terminal, aligned."""
    setting = ", ".join(f"{key} {value}" for key, value in found["setting"].items())
    out = [f"{found['kind']}: {setting}"]
    for row in found["rows"]:
        parts = [f"  {row['name']:<28}"]
        if "seconds" in row:
            s = row["seconds"]
            parts.append(f"{_ms(s['median'])} ({_ms(s['low'])} to {_ms(s['high'])})")
        parts += [f"{key} {_short(value)}" for key, value in row.items() if isinstance(value, (int, float))]
        if "ours_over_this" in row:
            r = row["ours_over_this"]
            parts.append(f"{OURS} takes {r['median']:.2f} of it ({r['low']:.2f} to {r['high']:.2f})")
        out.append("  ".join(parts))
    m = found["machine"]
    out.append(f"on {m['cpu']}, {m['cores']} cores, {m['device']} x {m['n_devices']}; load {m['load_1min']:.1f}")
    if m["load_1min"] > m["cores"] + 1:
        out.append("other work shares the cores: the ratios are not to be trusted; measure again when it is done")
    return out


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.4g} ms"


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
