"""Structured text: what each remedy buys in exact matches, beside the ceiling that the inputs allow.

    python benchmarks/structured_text.py --workdir runs/structured_text

One simulated set, split kfold:3:0; the plain preset, each remedy alone and the remedies of the decoder together, each
with the same steps. Scores are gold-context exact matches of describe and anticipate on the test procedures, their
differences to plain (paired by procedure), and their share of the ceiling given the inputs, which `vlm-jax data
information` measures by forking the generator. Intervals of that share are of the test procedures: they take the
ceiling, an estimate from --states states, as exact. Finished runs are kept. Everything is simulated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from runs import estimates, predictions, shown, train_and_score, vlm_jax, write_page, write_result

from vlm_jax.data.store import open_dataset
from vlm_jax.evaluation.intervals import Groups, Samples, weighted_mean
from vlm_jax.metrics.factuality import fact_counts, fact_scores
from vlm_jax.metrics.generation import exact

TASKS = ("describe", "anticipate")
SYSTEMS = {
    "plain": "",
    "landmark_tokens": ",landmark_tokens",
    "grammar": ",grammar",
    "frames": ",frames=3",
    "learned_weights": ",learned_weights",
    "together": ",landmark_tokens,grammar,frames=3",
}


class Benchmark:
    """One invocation."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.folder = args, args.workdir
        self.data, self.ceilings = self.folder / "data", self.folder / "information.json"

    def run(self) -> dict:
        a = self.args
        size = ["--procedures", str(a.procedures), "--frames_per_procedure", str(a.frames)]
        size += ["--activities_per_procedure", str(a.activities), "--image_size", str(a.image_size)]
        vlm_jax("data", "simulate", "--out", str(self.data), *size)
        states = ["--states", str(a.states), "--futures", str(a.futures)]
        words = ["--out", str(self.ceilings), "--activities_per_procedure", str(a.activities), *states]
        if not self.ceilings.is_file():
            vlm_jax("data", "information", *words)
        settings = {"data.path": str(self.data), "data.split": "kfold:3:0", "train.tensorboard": "false"}
        for seed in range(a.seeds):
            for name in a.systems:
                own = settings | {"seed": str(seed), **dict(a.settings)}
                train_and_score(a.preset + SYSTEMS[name], self.folder / f"{name}-{seed}", own)
        return self.result()

    def result(self) -> dict:
        info = open_dataset(str(self.data)).info
        ceilings = json.loads(self.ceilings.read_text())["tasks"]
        tasks = {}
        for task in TASKS:
            runs = [
                [predictions(self.folder / f"{name}-{seed}") for seed in range(self.args.seeds)]
                for name in self.args.systems
            ]
            ceiling = ceilings.get(task, {}).get("exact", {}).get("ceiling_inputs")
            tasks[task] = {
                "ceiling_inputs": ceiling,
                "scores": estimates(score_table(runs, list(self.args.systems), task, ceiling)),
            }
        settings = {"preset": self.args.preset, "seeds": self.args.seeds, **dict(self.args.settings)}
        return {"world": info.world, "generator": info.generator, "settings": settings, "tasks": tasks}


def score_table(runs: list[list[list[dict]]], systems: list[str], task: str, ceiling: float | None) -> Samples:
    """`<system>/{exact, of_ceiling, minus_plain, fact_f1, contradictions}`; seeds averaged, procedures resampled.

    Args:
      runs: predictions of each system and seed; all of the same units.
    """
    groups = Groups.build([row["procedure"] for row in runs[0][0] if task in row])
    tables = np.stack([[groups.sums(_unit_scores(rows, task)) for rows in seeds] for seeds in runs])  # [S, seeds, G, 7]
    names = [f"{s}/{n}" for s in systems for n in ("exact", "of_ceiling", "minus_plain", "fact_f1", "contradictions")]

    def fn(weights: np.ndarray) -> np.ndarray:
        total = np.einsum("rg,skgm->srm", weights, tables)
        matched = weighted_mean(total[..., 0], total[..., 1])  # [S, R]
        facts = fact_scores(total[..., 2:], total[..., 1])
        gain = matched - matched[systems.index("plain")]
        # The ceiling's own error is not in this interval; the page says how large it is.
        share = matched / ceiling if ceiling else np.full(matched.shape, np.nan)
        columns = [matched, share, gain, facts[..., 2], facts[..., 3]]
        return np.moveaxis(np.stack(columns, axis=1), -1, 0).reshape(len(weights), -1)

    return Samples.draw(names, fn, len(groups), resamples=2000)


def _unit_scores(rows: list[dict], task: str) -> np.ndarray:
    """float[U, 7]: exact match, one, and the counts of facts of a run's units."""
    found = [row[task] for row in rows if task in row]
    texts = [(one["predicted"].strip("[]").lower(), one["true"].strip("[]").lower()) for one in found]
    return np.array([[exact(said, [true]), 1.0, *fact_counts(said, [true])[-1]] for said, true in texts])


def tables(result: dict) -> str:
    """A table a task."""
    parts = []
    for task, found in result["tasks"].items():
        ceiling = f"exact match given the inputs at most {found['ceiling_inputs']:.3f}"
        lines = [
            f"**{task}**: {ceiling}",
            "",
            "| system | exact match | gain | of the ceiling | facts: F1 | contradictions |",
        ]
        lines.append("|---|---|---|---|---|---|")
        scores = found["scores"]
        for system in dict.fromkeys(key.split("/")[0] for key in scores):
            gain = "-" if system == "plain" else shown(scores[f"{system}/minus_plain"], "+.3f")
            cells = [shown(scores[f"{system}/{key}"]) for key in ("exact", "of_ceiling", "fact_f1", "contradictions")]
            lines.append(f"| {system} | {' | '.join([cells[0], gain, *cells[1:]])} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/structured_text.json"), help="default: %(default)s"
    )
    parser.add_argument("--page", type=Path, default=Path("docs/results/study.md"), help="default: %(default)s")
    parser.add_argument("--preset", default="configs/vlm.py:tiny,tasks=landmarks+describe+anticipate")
    parser.add_argument("--systems", nargs="*", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="NAME")
    parser.add_argument("--procedures", type=int, default=24)
    parser.add_argument("--frames", type=int, default=300, help="a procedure")
    parser.add_argument("--activities", type=float, default=72, help="a procedure, mean")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--states", type=int, default=200, help="states at which the ceilings are measured")
    parser.add_argument("--futures", type=int, default=50, help="futures of each state")
    parser.add_argument("--seeds", type=int, default=1)
    pair = {"type": lambda text: text.split("=", 1), "metavar": "KEY=VALUE"}
    parser.add_argument("--set", dest="settings", nargs="*", default=[], help="settings of every run", **pair)
    args = parser.parse_args()
    if "plain" not in args.systems:
        parser.error("--systems needs plain: the others are compared with it")
    return args


def main() -> None:
    args = parse()
    args.workdir.mkdir(parents=True, exist_ok=True)
    result = Benchmark(args).run()
    write_result(args.out, result)
    write_page(args.page, "structured_text", tables(result))


if __name__ == "__main__":
    main()
