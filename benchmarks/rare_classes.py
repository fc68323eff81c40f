"""Rare landmarks: how much each remedy recovers of what a balanced training set of the same size would give.

    python benchmarks/rare_classes.py --workdir runs/rare_classes

Four simulated sets, each with a seed of its own: a pilot that names the five rarest landmarks before anything is
trained, the plain training set, procedures that choose thresholds and procedures that test, and a pool from which the
balanced training set is picked: as many activities and frames as the plain one, in which each of the five is in a fifth
of the activities or in as many as the pool has. Every remedy is trained on the plain set. Every system is recalibrated
(Platt's slope and offset, fitted on the procedures that choose thresholds), plain and balanced, too, so that they
differ in their training alone.

Gains are over plain, and recovery is (remedy - plain) / (balanced - plain) of the mean F1 of the five; seeds averaged,
whole procedures resampled and the chance of training added. Finished runs are kept: the same command goes on.
Everything is simulated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rare_scores import one_run, score_table, tables
from runs import on_shares, predictions, train_and_score, vlm_jax, write_page, write_result

from vlm_jax.contract import Frame, ProcedureBundle
from vlm_jax.data.store import Dataset, open_dataset, write_dataset
from vlm_jax.evaluation.intervals import Samples

N_RARE, SHARE = 5, 0.2
SEEDS = {"pilot": 101, "plain": 102, "pool": 103, "held_out": 104}
REMEDIES = ("class_balanced", "repeat_factor", "asymmetric", "logit_adjustment", "places", "class_balanced+places")
"""Arguments of the preset; `+` joins several."""


def prevalence(dataset: Dataset) -> np.ndarray:
    """float[C]: share of the activities with each landmark."""
    return np.array([a.landmarks for a in dataset.tables.activities], float).mean(axis=0)


def rarest(pilot: Dataset) -> list[str]:
    """The five rarest of the landmarks that are there at all."""
    share = prevalence(pilot)
    order = [i for i in np.argsort(share, kind="stable") if share[i] > 0]
    return [pilot.info.labels[i] for i in order[:N_RARE]]


def pick(pool: Dataset, names: list[str], n: int, seed: int = 0) -> set[str]:
    """Ids of `n` activities of the pool: the five named ones up to their share each, the rarest first, then any."""
    labels = np.array([a.landmarks for a in pool.tables.activities])
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = np.zeros(len(labels), bool)
    for name in names:
        column = pool.info.labels.index(name)
        missing = max(0, round(SHARE * n) - int(labels[chosen, column].sum()))
        chosen[[i for i in order if labels[i, column] == 1 and not chosen[i]][:missing]] = True
    rest = [i for i in order if not chosen[i]]
    chosen[rest[: max(0, n - int(chosen.sum()))]] = True
    return {a.id for a, keep in zip(pool.tables.activities, chosen, strict=True) if keep}


def write_set(out: Path, training: Dataset, held_out: Dataset, kept: set[int] | None, picked: str) -> None:
    """One data set of the training and the held out procedures: a list file divides it.

    Args:
      kept: rows of the training frames that are written; None = all. Activities and their texts stay whole, so that
        what came before an activity is still true.
      picked: what is said of the choice in the data set's generator.
    """
    info = replace(training.info, generator={**training.info.generator, "picked": picked})
    owner = {p.id: dataset for dataset in (training, held_out) for p in dataset.tables.procedures}

    def bundle(id: str) -> ProcedureBundle:
        dataset = owner[id]
        rows = np.flatnonzero(dataset.frames.procedure == id).tolist()
        return ProcedureBundle(
            next(p for p in dataset.tables.procedures if p.id == id),
            tuple(v for v in dataset.tables.videos if v.procedure == id),
            tuple(a for a in dataset.tables.activities if a.procedure == id),
            (),
            _frames(dataset, [i for i in rows if kept is None or dataset is held_out or i in kept]),
        )

    write_dataset(out, info, list(owner), bundle, progress=False)


def balanced_frames(plain: Dataset, pool: Dataset, names: list[str]) -> set[int]:
    """Rows of the pool's frames: of the picked activities, as many as the plain set has in its activities."""
    index = pool.frames
    activities = pick(pool, names, len(plain.tables.activities))
    rows = np.flatnonzero(np.isin(index.activity, sorted(activities)) & index.assessable)
    n = int(((plain.frames.activity != "") & plain.frames.assessable).sum())
    return set(np.random.default_rng(0).permutation(rows)[:n].tolist())


def _frames(pool: Dataset, rows: list[int]) -> Iterator[Frame]:
    index = pool.frames
    for i in rows:
        yield Frame(
            uid=str(index.uid[i]),
            procedure=str(index.procedure[i]),
            video=str(index.video[i]),
            pts_ms=int(index.pts_ms[i]),
            activity=str(index.activity[i]) or None,
            assessable=True,
            image=pool.read_image(i),
            visible=tuple(None if v < 0 else int(v) for v in index.visible[i]),  # pyright: ignore[reportArgumentType]
            fractions=tuple(None if np.isnan(f) else float(f) for f in index.fractions[i]),
        )


class Benchmark:
    """One invocation."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.folder = args, args.workdir
        self.frames: dict[str, int] = {}

    def simulate(self) -> dict[str, Dataset]:
        a = self.args
        counts = {"pilot": a.procedures, "plain": a.procedures, "pool": a.pool, "held_out": 2 * a.held_out}
        for name, n in counts.items():
            words = ["--procedures", str(n), "--seed", str(SEEDS[name]), "--image_size", str(a.image_size)]
            words += ["--frames_per_procedure", str(a.frames), "--activities_per_procedure", str(a.activities)]
            vlm_jax("data", "simulate", "--out", str(self.folder / name), *words)
        return {name: open_dataset(str(self.folder / name)) for name in counts}

    def prepare(self, data: dict[str, Dataset], names: list[str]) -> dict[str, dict[str, str]]:
        """{training set: data.path and data.split}: half of the held out procedures validate, the others test."""
        balanced = balanced_frames(data["plain"], data["pool"], names)
        picked = {"plain": (data["plain"], None), "balanced": (data["pool"], balanced)}
        ids = [p.id for p in data["held_out"].tables.procedures]
        settings = {}
        for name, (training, kept) in picked.items():
            out, path = self.folder / f"{name}_set", self.folder / f"{name}_split.json"
            about = f"{name}: {', '.join(names)}" if kept is not None else name
            write_set(out, training, data["held_out"], kept, about)
            lists = {"train": [p.id for p in training.tables.procedures]}
            lists |= {"validation": ids[: len(ids) // 2], "test": ids[len(ids) // 2 :]}
            path.write_text(json.dumps(lists, indent=1) + "\n")
            settings[name] = {"data.path": str(out), "data.split": f"list:{path}", "data.group_by": "procedure"}
            self.frames[name] = len(kept) if kept is not None else int((training.frames.activity != "").sum())
        return settings

    def run(self) -> dict:
        data = self.simulate()
        names = rarest(data["pilot"])
        sets = self.prepare(data, names)
        systems = {"plain": "", "balanced": "", **{r: f",{r}".replace("+", ",") for r in self.args.remedies}}
        preset = f"{self.args.preset}{{}},recalibrated"
        jobs = []
        for seed in range(self.args.seeds):
            for system, ablation in systems.items():
                settings = sets["balanced" if system == "balanced" else "plain"]
                settings = settings | {"seed": str(seed), "train.tensorboard": "false", **dict(self.args.settings)}
                folder = self.folder / f"{system}-{seed}"
                jobs.append(partial(train_and_score, preset.format(ablation), folder, settings))
        on_shares(jobs, self.args.processes)
        return self.result(names, list(systems), data)

    def shares(self, data: dict[str, Dataset], names: list[str], column: int) -> dict[str, float]:
        """{set: share of its activities with the landmark}; of the held out procedures those of the test part."""
        found = {name: data[name].tables.activities for name in ("pilot", "plain")}
        picked = pick(data["pool"], names, len(found["plain"]))
        found["balanced"] = tuple(a for a in data["pool"].tables.activities if a.id in picked)
        test = {p.id for p in data["held_out"].tables.procedures[self.args.held_out :]}
        found["test"] = tuple(a for a in data["held_out"].tables.activities if a.procedure in test)
        return {
            name: round(float(np.mean([a.landmarks[column] == 1 for a in some])), 4) for name, some in found.items()
        }

    def result(self, names: list[str], systems: list[str], data: dict[str, Dataset]) -> dict:
        labels = data["plain"].info.labels
        rare = np.isin(labels, names)
        runs = {}
        for system in systems:
            folders = [self.folder / f"{system}-{seed}" for seed in range(self.args.seeds)]
            found = [one_run(predictions(f), labels, rare) for f in folders]
            runs[system] = Samples.mean(found, system)
        return {
            "world": data["plain"].info.world,
            "generator": data["plain"].info.generator,
            "rarest": names,
            "share_of_activities": {name: self.shares(data, names, labels.index(name)) for name in names},
            "training_frames": self.frames,
            "settings": {
                "preset": f"{self.args.preset},recalibrated",
                "seeds": self.args.seeds,
                **dict(self.args.settings),
            },
            "scores": score_table(runs),
        }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/rare_classes.json"), help="default: %(default)s")
    parser.add_argument("--page", type=Path, default=Path("docs/results/study.md"), help="default: %(default)s")
    parser.add_argument("--preset", default="configs/vlm.py:tiny,tasks=landmarks")
    parser.add_argument("--remedies", nargs="*", default=list(REMEDIES))
    parser.add_argument("--procedures", type=int, default=12, help="of the plain training set, and of the pilot")
    parser.add_argument("--pool", type=int, default=60, help="procedures from which the balanced set is picked")
    parser.add_argument("--held_out", type=int, default=12, help="procedures to validate on, and as many to test on")
    parser.add_argument("--frames", type=int, default=300, help="a procedure")
    parser.add_argument("--activities", type=float, default=72, help="a procedure, mean")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="trainings at once; default: %(default)s")
    parser.add_argument(
        "--set", dest="settings", nargs="*", type=lambda x: x.split("=", 1), default=[], help="KEY=VALUE"
    )
    return parser.parse_args()


def main() -> None:
    args = parse()
    args.workdir.mkdir(parents=True, exist_ok=True)
    result = Benchmark(args).run()
    write_result(args.out, result)
    write_page(args.page, "rare_classes", tables(result))


if __name__ == "__main__":
    main()
