"""Every baseline at @tiny on the simulator's small set, by the ordinary commands: train, then evaluate on test.

    python benchmarks/baselines.py --workdir runs/baselines

The data are what the demo had at the time: 24 short simulated procedures, split kfold:3:0. Runs that are finished are
not repeated, a run that was cut off goes on, and data of another simulator or runs of other settings are refused.
After each system it writes a JSON file, the tables in docs/results/baselines.md and a plot of the training curves
beside it. Everything is simulated and says nothing of surgery, nor of the systems at their published sizes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charts import line_chart
from runs import train_and_score, vlm_jax, write_page

from vlm_jax.commands.demo import SPLIT
from vlm_jax.config.load import read
from vlm_jax.config.rules import get
from vlm_jax.config.schema import Config
from vlm_jax.config.values import leaves
from vlm_jax.data.store import open_dataset

SIMULATE = "--activities_per_procedure 24 --frames_per_procedure 96 --image_size 64 --seed 0"
FOLDER = "configs/baselines"
SYSTEMS = {
    "vlm": "configs/vlm.py:tiny",
    "landmark_cnn": f"{FOLDER}/landmark_cnn.py:tiny",
    "navigation_seq2seq": f"{FOLDER}/navigation_seq2seq.py:tiny",
    "navigation_lstm": f"{FOLDER}/navigation_seq2seq.py:lstm,tiny",
    "navigation_encoder_decoder": f"{FOLDER}/navigation_seq2seq.py:encoder_decoder,tiny",
    "hmm": f"{FOLDER}/hmm.py:tiny",
    "keyword_report": f"{FOLDER}/keyword_report.py:tiny",
    "surgical_gpt_arch": f"{FOLDER}/surgical_gpt.py:tiny",
    "endovit_arch": f"{FOLDER}/endovit.py:tiny",
}
"""The run's folder -> its configuration."""

SCORES = {
    "landmarks": {"f1_macro": "macro-F1", "map": "mAP"},
    "describe": {"bleu2": "BLEU-2", "rouge_l": "ROUGE-L", "exact": "exact"},
    "anticipate": {"bleu2": "BLEU-2", "rouge_l": "ROUGE-L", "exact": "exact"},
    "report": {"bleu2": "BLEU-2", "rouge_l": "ROUGE-L", "exact": "exact"},
}
"""What the tables show of each task: the metric's name in metrics.json, and here."""
PLURAL = {"frame": "frames", "activity": "activities", "sentence": "sentences"}

PLOT = "baselines_simulated.svg"


class Benchmark:
    """The runs of one invocation."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.start = time.monotonic()
        self.data = args.workdir / "data"

    def run(self) -> Iterator[list[str]]:
        """Trains and scores one system after the other; yields the names of those that are done."""
        # Nothing is done where the data are there, and refused where they are of another simulator or size.
        vlm_jax("data", "simulate", "--out", str(self.data), "--procedures", self.args.procedures, *SIMULATE.split())
        names = self.args.systems
        for i, name in enumerate(names, 1):
            self._say(f"{i} of {len(names)}: {name}")
            self._one(name, self.args.workdir / name)
            yield names[:i]
        self._say("done")

    def _one(self, name: str, folder: Path) -> None:
        settings = {"data.path": str(self.data), "data.split": SPLIT}
        if self.args.steps:
            settings |= {"train.steps": str(self.args.steps), "checkpoint.every": str(self.args.steps)}
        train_and_score(SYSTEMS[name], folder, settings)

    def _say(self, line: str) -> None:
        wall, used = time.monotonic() - self.start, resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = f"{wall / 60:5.1f} min, {(used.ru_utime + used.ru_stime) / 60:5.1f} of one core"
        print(f"[{spent}] {line}", file=sys.stderr, flush=True)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """One row a task and score of a finished run, beside the trivial system that is best at it on the same units."""
    metrics = json.loads((folder / "eval" / "test" / "metrics.json").read_text())
    config = read(folder / "config.json")
    rows = []
    for key, entry in metrics.items():
        source, task, *rest = key.split("/")
        if len(rest) != 1 or rest[0] not in SCORES[task]:
            continue
        gain = metrics.get(f"{source}/{task}/gain/{rest[0]}", {})
        trivial = metrics.get(f"{source}/{task}/trivial/{gain.get('over')}/{rest[0]}", {})
        rows.append(
            {
                "system": config.name if "@" in config.name else f"{config.system}@{config.name}",
                "started_from": started_from(config),
                "steps": config.train.steps,
                "task": task,
                "metric": rest[0],
                **{name: entry[name] for name in ("value", "low", "high", "n_units", "unit", "world")},
                "best_trivial": gain.get("over"),
                "trivial": trivial.get("value"),
                "gain": [gain.get(name) for name in ("value", "low", "high")],
            }
        )
    return rows


def started_from(config: Config) -> str:
    """`random`, or the weights that some part of the model was started from."""
    found = [f"{key.split('.')[1]}: {Path(get(config, key)).name}" for key in leaves() if _is_start(config, key)]
    return ", ".join(found) or ("counts" if config.system == "hmm" else "random")


def _is_start(config: Config, key: str) -> bool:
    return key.startswith("model.") and key.endswith(".init") and bool(get(config, key))


def tables(rows: list[dict[str, Any]]) -> str:
    """Markdown, a table a task: a line a system, each score beside its gain over the best trivial system."""
    return "\n\n".join(_table(task, found) for task in SCORES if (found := [r for r in rows if r["task"] == task]))


def _table(task: str, rows: list[dict[str, Any]]) -> str:
    scores = SCORES[task]
    cells = {(row["system"], row["metric"]): row for row in rows}
    best = {cell["metric"]: f"{cell['best_trivial']} {_number(cell['trivial'])}" for cell in rows}
    one = rows[0]
    lines = [
        f"**{task}**: {one['n_units']} {PLURAL[one['unit']]}, {one['world']}. The best trivial systems: "
        + ", ".join(f"{name} {best[key]}" for key, name in scores.items() if key in best)
        + ".",
        "",
        "| system | started from | " + " | ".join(f"{name} | gain" for name in scores.values()) + " |",
        "|---" * (2 + 2 * len(scores)) + "|",
    ]
    for system, start in {row["system"]: row["started_from"] for row in rows}.items():
        found = [cells.get((system, key)) for key in scores]
        lines.append(f"| {system} | {start} | " + " | ".join(_score(cell) for cell in found) + " |")
    return "\n".join(lines)


def _score(row: dict[str, Any] | None) -> str:
    """Two cells: the score and the gain, each with its interval."""
    if row is None:
        return "- | -"
    gain, low, high = row["gain"]
    return (
        f"{_number(row['value'])}{_interval(row['low'], row['high'])} | {_number(gain, '+')}{_interval(low, high, '+')}"
    )


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    return "" if low is None or high is None else f" [{low:{sign}.3f}, {high:{sign}.3f}]"


def plot(workdir: Path, systems: list[str]) -> str:
    """SVG: the training loss by step of every run that has steps, each as a share of its first."""
    found = {name: points for name in systems if len(points := _losses(workdir / name)) > 1}
    curves = {name: [(step, loss / points[0][1]) for step, loss in points] for name, points in found.items()}
    return line_chart(curves, "Baselines at @tiny, simulated procedures: training loss, share of the first", "step")


def _losses(folder: Path) -> list[tuple[int, float]]:
    """(step, loss) of the logged steps."""
    return [(row["step"], row["loss"]) for row in _log(folder) if row.get("loss")]


def _log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def minutes_of_steps(folder: Path) -> float | None:
    """Steps times the median of their time: saving, validating and starting are not in it. None without steps."""
    rows = [row for row in _log(folder) if "seconds_per_step" in row]
    if not rows:
        return None
    return round(rows[-1]["step"] * statistics.median(row["seconds_per_step"] for row in rows) / 60, 2)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="data and all runs go here")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/baselines.json"), help="default: %(default)s")
    parser.add_argument("--page", type=Path, default=Path("docs/results/baselines.md"), help="default: %(default)s")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), metavar="NAME")
    parser.add_argument("--procedures", default="24", metavar="N", help="simulated procedures (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=0, help="of every run; 0 = as the preset says (default)")
    return parser.parse_args()


def publish(args: argparse.Namespace, data: Path, done: list[str]) -> None:
    """The JSON file, the page and the plot, of the systems that are done."""
    rows = [row for name in done for row in rows_of(args.workdir / name)]
    settings = {"simulate": SIMULATE, "split": SPLIT, "procedures": args.procedures, "steps": args.steps or "preset"}
    settings["simulator"] = open_dataset(data).info.generator["version"]
    minutes = {name: minutes_of_steps(args.workdir / name) for name in done}
    found = {"world": "simulated", "settings": settings, "minutes_of_steps": minutes, "rows": rows}
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    missing = [name for name in args.systems if name not in done]
    figures = [tables(rows), f"![Training curves, simulated]({PLOT})"]
    figures += [f"Not run yet: {', '.join(missing)}; the command above goes on with them."] if missing else []
    write_page(args.page, "baselines", "\n\n".join(figures))
    args.page.with_name(PLOT).write_text(plot(args.workdir, done))


def main() -> None:
    args = parse()
    args.workdir.mkdir(parents=True, exist_ok=True)
    benchmark = Benchmark(args)
    for done in benchmark.run():
        publish(args, benchmark.data, done)
    print(tables([row for name in args.systems for row in rows_of(args.workdir / name)]))


if __name__ == "__main__":
    main()
