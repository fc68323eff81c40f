"""The whole table of a finished study as a page of the documentation, a JSON file and a chart of its contrasts.

    python benchmarks/study_page.py --workdir runs/study_small

Reads what `vlm-jax study` left in the work directory and trains nothing. All of one world; nothing is chosen: every
system, trivial ones and ceilings included, with the metrics that the report shows.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from charts import interval_chart
from runs import shown, write_page

from vlm_jax.contract import TASKS
from vlm_jax.data.store import open_dataset
from vlm_jax.evaluation.units import counted
from vlm_jax.study.jobs import SUMMARY

SHOWN = {
    "landmarks": ("f1_macro", "f1_micro", "map"),
    **dict.fromkeys(TASKS[1:], ("bleu2", "rouge_l", "exact", "cosine_tfidf", "shuffled/cosine_tfidf")),
}
"""Of each task, the first in all contexts; table.csv has all."""
CONTEXTS = ("gold", "rolled_out", "empty")
CEILINGS = ("ceiling_state", "ceiling_inputs")
COST = ("parameters", "steps", "batch_size", "seconds_of_steps", "device")
SPAN = 0.2
Row = dict[str, Any]


def main() -> None:
    args = parse()
    result = read(args.workdir)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    picture = f"{result['name']}_contrasts_{'simulated' if 'simulated' in result['world'] else 'real'}.svg"
    args.page.with_name(picture).write_text(chart(result))
    parts = [contrast_table(result), f"![Every contrast beside the margin, {result['world']}]({picture})"]
    parts += [task_table(result, task) for task in TASKS if any(r["task"] == task for r in result["rows"])]
    write_page(args.page, "study_page", "\n\n".join([*parts, cost_table(result)]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR", help="of a finished study of one world")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/study_small.json"), metavar="FILE.json")
    parser.add_argument("--page", type=Path, default=Path("docs/results/study.md"), metavar="FILE.md")
    return parser.parse_args()


def read(workdir: Path) -> dict[str, Any]:
    """What of the study goes onto the page."""
    if not (workdir / "table.csv").is_file():
        raise SystemExit(f"{workdir} holds no finished study: run `vlm-jax study` until it says that it is done")
    rows = list(csv.DictReader((workdir / "table.csv").read_text().splitlines()))
    worlds = sorted({row["world"] for row in rows})
    if len(worlds) > 1:
        raise SystemExit(f"{workdir} has {len(worlds)} worlds ({', '.join(worlds)}): the page holds one")
    kept = [_numbers(row) for row in rows if (row["metric"], row["context"]) in columns(row["task"]) and row["value"]]
    made = sorted(file.parent for file in (workdir / "data").glob("*/dataset.json"))
    runs = sorted((workdir / "runs").glob(f"*/*/*/{SUMMARY}"))
    cost: dict[str, list[Row]] = {}
    for file in runs:
        cost.setdefault(file.parent.parent.name, []).append(json.loads(file.read_text()))
    return {
        "name": f"study_{json.loads((workdir / 'study.json').read_text())['name']}",
        "world": worlds[0],
        "generators": [open_dataset(path).info.generator for path in made],
        "rows": kept,
        "contrasts": json.loads((workdir / "contrasts.json").read_text()),
        "cost": {name: [{key: run[key] for key in COST} for run in some] for name, some in cost.items()},
    }


def columns(task: str) -> list[tuple[str, str]]:
    """(metric, context): the first metric in all contexts, the others with the true texts."""
    main, *others = SHOWN[task]
    return [*((main, context) for context in CONTEXTS), *((metric, "gold") for metric in others)]


def _numbers(row: Row) -> Row:
    numbers = {key: float(row[key]) if row[key] else None for key in ("value", "low", "high", *CEILINGS)}
    return {**{key: row[key] for key in ("system", "task", "metric", "context", "init", "unit")}, **numbers,
            "n_units": int(row["n_units"]), "n_groups": int(row["n_groups"])}  # fmt: skip


def cell(row: Row | None, form: str = ".3f") -> str:
    return "-" if row is None or row["value"] is None else shown([row["value"], row["low"], row["high"]], form)


def markdown(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def contrast_table(result: dict[str, Any]) -> str:
    """The seven primaries."""
    lines = []
    for c in result["contrasts"]:
        worse = "; ".join(f"{name} is below {better}" for name, better in c["not_learned"].items())
        about = [c["finding"], f"{c['first']} - {c['second']}", f"{c['task']} {c['metric']}"]
        lines.append([*about, cell(c, "+.3f"), str(c["interval"]), c["verdict"] + (f" ({worse})" if worse else "")])
    return markdown(["finding of the paper", "contrast", "score", "difference", "by interval", "verdict"], lines)


def task_table(result: dict[str, Any], task: str) -> str:
    """Every system, the trivial ones last; the ceilings below where there are any."""
    rows = [row for row in result["rows"] if row["task"] == task]
    names = sorted(dict.fromkeys(row["system"] for row in rows), key=lambda name: name.startswith("trivial/"))
    found = {(row["system"], row["metric"], row["context"]): row for row in rows}
    lines = [[name, *(cell(found.get((name, *column))) for column in columns(task))] for name in names]
    for key in CEILINGS:
        values = [
            next((r[key] for r in rows if (r["metric"], r["context"]) == column), None) for column in columns(task)
        ]
        if any(value is not None for value in values):
            cells = ["-" if value is None else f"{value:.3f}" for value in values]
            lines.append([key.replace("_", ": "), *cells])
    size = f"{counted(rows[0]['n_units'], rows[0]['unit'])}, {rows[0]['n_groups']} procedures, {result['world']}"
    head = [f"{m}" if context == "gold" else f"{m}, {context.replace('_', ' ')}" for m, context in columns(task)]
    return f"**{task}** ({size})\n\n{markdown(['system', *head], lines)}"


def cost_table(result: dict[str, Any]) -> str:
    """What each trained system is and took, over its runs."""
    lines = []
    for name, runs in result["cost"].items():
        seconds, steps = sum(run["seconds_of_steps"] for run in runs), runs[0]["steps"]
        fitted = not seconds
        of = ["-", "-"] if fitted else [f"{steps} of {runs[0]['batch_size']}", f"{seconds / 60:.0f}"]
        lines.append([name, f"{runs[0]['parameters']:,}", str(len(runs)), *of])
    return markdown(["trained system", "parameters", "runs", "steps", "minutes in steps, all runs"], lines)


def chart(result: dict[str, Any]) -> str:
    """Every contrast with its interval beside the margin."""
    found = [c for c in result["contrasts"] if c["low"] is not None]
    names = [" - ".join(c[side].partition("@")[0] for side in ("first", "second")) for c in found]
    rows = {name: [(c["value"], c["low"], c["high"])] for name, c in zip(names, found, strict=True)}
    title = f"First minus second, 95 % over procedures; grey: the margin; cut at {SPAN}; {result['world']}"
    return interval_chart(rows, title, result["contrasts"][0]["margin"], SPAN)


if __name__ == "__main__":
    main()
