"""The tables of docs/performance.md, from the JSON files of benchmarks/results.

    python benchmarks/tables.py            rewrites them
    python benchmarks/tables.py --check    exit code 1 if they are not what the files say

A table stands between `<!-- figures: FOLDER -->` and `<!-- end -->`, FOLDER being one of benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"
_BLOCK = re.compile(r"(<!-- figures: ([\w/.-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_RATES = ("examples_per_second", "texts_per_second", "frames_per_second", "images_per_second")


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: one row a case, and below it what they were measured on."""
    lines = [
        "| job | case | milliseconds (quartiles; timings) | a second | ours takes, of its time (quartiles) | more |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(job, row) for job, found in results.items() for row in found["rows"]]
    return "\n".join([*lines, "", *_machines(results)])


def _row(job: str, row: dict[str, Any]) -> str:
    s = row.get("seconds")
    time = "" if s is None else f"{_ms(s['median'])} ({_ms(s['low'])} to {_ms(s['high'])}; {s['n']})"
    rate = next((f"{row[name]:,.4g} {name.split('_')[0]}" for name in _RATES if name in row), "")
    r = row.get("ours_over_this")
    ratio = "" if r is None else f"{r['median']:.2f} ({r['low']:.2f} to {r['high']:.2f})"
    return f"| {job} | {row['name']} | {time} | {rate} | {ratio} | {_more(row)} |"


def _more(row: dict[str, Any]) -> str:
    """What only some rows have."""
    out = []
    if "share_of_peak" in row:
        out.append(f"{row['share_of_peak']:.1%} of the published peak")
    elif "flops_per_second" in row:
        out.append(f"{row['flops_per_second'] / 1e9:,.0f} GFLOP/s")
    if "share_of_matmul" in row:
        out.append(f"{row['share_of_matmul']:.0%} of a large product's")
    if "over_synthetic" in row:
        out.append(f"{row['over_synthetic']:.3f} times the step on data that lie on the device")
    if "over_greedy" in row:
        out.append(f"{row['over_greedy']:.2f} times greedy")
    if "first_step" in row:
        steps = ("imported", "built", "compiled", "first_step")
        out.append(", ".join(f"{name.replace('_', ' ')} {row[name]:.1f} s" for name in steps))
        out.append(f"a save holds up {row['save_blocks'] * 1e3:.0f} ms")
    if "times" in row:
        out.append(f"operations {row['flops_times']:.2f} times, time {row['times']:.2f} times")
    if row.get("note"):
        out.append(row["note"])
    return "; ".join(out)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def _machines(results: dict[str, dict[str, Any]]) -> list[str]:
    """One line for each combination of machine, versions and commit; the number of timings is the smallest."""
    seen: dict[str, list[int]] = {}
    for found in results.values():
        m, v = found["machine"], found["versions"]
        names = ("jax", "torch", "transformers")
        versions = ", ".join(f"{name} {v[name]}" for name in names if name in v)
        flags = " ".join(f"{k}={x}" for k, x in found["flags"].items()) or "no flags"
        where = f"{m['cpu']}, {m['cores']} cores, {m['device']}"
        about = f"{found['date']}, commit {found['commit']}; {where}; {versions}; {flags}"
        seen.setdefault(about, []).extend(row["seconds"]["n"] for row in found["rows"] if "seconds" in row)
    return [
        f"Measured {about}; medians of {min(n)} or more timings." if n else f"Measured {about}."
        for about, n in seen.items()
    ]


def render(page: str) -> str:
    """The page with its tables made anew."""

    def block(match: re.Match[str]) -> str:
        folder = RESULTS / match.group(2)
        results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
        return f"{match.group(1)}{table(results)}\n{match.group(3)}"

    return _BLOCK.sub(block, page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    made = render(page)
    if arguments.check:
        print("as the files say" if made == page else "docs/performance.md is not what benchmarks/results says")
        return int(made != page)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
