"""The parity table of docs/weights.md: greatest differences from torch and transformers, one row a layout and size.

    python benchmarks/parity.py --out benchmarks/parity.json

Runs the parity tests (the slow ones too: minutes, and 3 GB of memory) and collects what each of them records. Size is
(width, layers, heads, patch, pixels) for vision transformers, (width, layers, heads, MLP, vocabulary) for BERTs,
(width, layers, heads, positions, vocabulary) for GPT-2 and (name, width factor, pixels) for backbones. `--junit
FILE...` reads the results of earlier runs in place of running.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("tests/weights", "tests/models/baselines")


def run_tests(report: Path) -> None:
    """Runs every parity test; their failures are the table's too, so they end it."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-cov", "-m", "slow or not slow", "-k", "parity"]
    subprocess.run([*command, *TESTS, f"--junitxml={report}"], cwd=ROOT, check=True)


def read_rows(reports: list[Path]) -> list[dict[str, Any]]:
    """What passed tests recorded, one row a layout, size and output; a later report wins."""
    rows = {}
    for report in reports:
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            if case.find("failure") is None and case.find("error") is None:
                for found in case.iter("property"):
                    if found.get("name") == "parity":
                        row = json.loads(found.get("value", ""))
                        rows[row["layout"], str(row["size"]), row["output"]] = row
    return [rows[key] for key in sorted(rows)]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| layout | against | size | output | greatest value | greatest difference |", "|---|---|---|---|---|---|"]
    for row in rows:
        size = row["size"] if isinstance(row["size"], str) else ", ".join(map(str, row["size"]))
        figures = f"{row['max_abs']:.3g} | {row['max_abs_difference']:.1e}"
        lines.append(f"| `{row['layout']}` | {row['oracle']} | {size} | {row['output']} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="the JSON file to write")
    parser.add_argument("--junit", nargs="*", type=Path, default=[], help="reports of earlier runs")
    arguments = parser.parse_args()
    reports = arguments.junit
    if not reports:
        reports = [Path(tempfile.mkdtemp()) / "parity.xml"]
        run_tests(reports[0])
    rows = read_rows(reports)
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
