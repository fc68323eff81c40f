"""Masked autoencoding of unlabelled frames, then fine-tuning, against the same number of steps from scratch.

    python benchmarks/mae_finetune.py --frames data/frames --larynx data/vocalfolds --workdir runs/mae_finetune

For every seed one sequence of each patient of the larynx images is held out. `pretrained` spends --pretrain_steps on
the unlabelled frames and the training part of the larynx images, without labels, and --finetune_steps on landmarks and
descriptions; `scratch` spends all of them on landmarks and descriptions. Same model, same batch size, and the
checkpoint of the lowest validation loss in both. A run that was cut off goes on where it stopped. Prints a table,
writes JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from vlm_jax.data.store import open_dataset

SCORES = {
    "landmarks mAP": "landmarks/map_two_sided",
    "landmarks macro-F1": "landmarks/f1_macro_two_sided",
    "describe BLEU-2": "describe/bleu2",
}
"""What stands in the table: over the classes with positives and negatives in the held-out sequences."""
ARMS = ("pretrained", "scratch")


def vlm_jax(*words: str) -> None:
    """One command, in a process of its own; its talk goes to the terminal."""
    done = subprocess.run([sys.executable, "-m", "vlm_jax", *words], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"vlm-jax {' '.join(words)} ended with exit code {done.returncode}; run the same command to go on")


def held_out(larynx: Path, seed: int) -> list[str]:
    """One sequence of each patient, another one for another seed (as long as there are more)."""
    dataset = open_dataset(larynx)
    patient = {row.id: row.patient for row in dataset.tables.procedures}
    sequences: dict[str, list[str]] = {}
    for video in dataset.tables.videos:
        sequences.setdefault(patient[video.procedure], []).append(video.id)
    return [names[seed % len(names)] for names in map(sorted, sequences.values())]


class Experiment:
    """All runs of all seeds, in one work directory."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.larynx = open_dataset(args.larynx).info.source
        frames = open_dataset(args.frames)
        self.frames, self.n_videos = frames.info.source, len({row.patient for row in frames.tables.procedures})
        self.start = time.monotonic()

    def run(self) -> list[dict]:
        """The rows of the table: one a seed and arm."""
        rows = []
        for seed in self.args.seeds:
            split = self._split_file(seed)
            for arm in ARMS:
                folder = self.args.workdir / f"seed{seed}" / arm
                if not (folder / "eval" / "test" / "metrics.json").is_file():
                    self._train(seed, arm, split, folder)
                    vlm_jax("evaluate", "--workdir", str(folder), "--split", "test")
                rows.append(self._row(seed, arm, split, folder))
                self._say(f"seed {seed} {arm}: " + ", ".join(f"{k} {_text(rows[-1][k])}" for k in SCORES))
        return rows

    def _split_file(self, seed: int) -> Path:
        path = self.args.workdir / "splits" / f"seed{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"test": held_out(self.args.larynx, seed)}) + "\n")
        return path

    def _train(self, seed: int, arm: str, split: Path, folder: Path) -> None:
        a = self.args
        tasks = "tasks=landmarks+describe"
        shared = self._settings(seed, f"{self.larynx}=list:{split}")
        if arm == "scratch":
            steps = a.pretrain_steps + a.finetune_steps
            self._say(f"seed {seed} {arm}: {steps} steps")
            one = self._one_set(steps)
            vlm_jax("train", "--config", f"{a.config},{tasks}", "--workdir", str(folder), *shared, *one)
            return
        mae = folder.with_name("mae")
        self._say(f"seed {seed} {arm}: {a.pretrain_steps} steps without labels, {a.finetune_steps} with")
        both = self._settings(seed, f"{self.larynx}=list:{split},{self.frames}=kfold:{self.n_videos}:0")
        data = [f"--config.data.path={a.frames},{a.larynx}", f"--config.train.steps={a.pretrain_steps}"]
        vlm_jax("train", "--config", a.pretrain_config, "--workdir", str(mae), *both, *data)
        init = f"--config.model.image_encoder.init={mae}"
        one = self._one_set(a.finetune_steps)
        vlm_jax("train", "--config", f"{a.config},{tasks}", "--workdir", str(folder), *shared, *one, init)

    def _settings(self, seed: int, split: str) -> list[str]:
        values = {
            "seed": seed,
            "data.split": split,
            "data.group_by": f"{self.larynx}=sequence",
            "train.batch_size": self.args.batch_size,
            "train.tensorboard": "false",
            "checkpoint.every": self.args.checkpoint_every,
        }
        return [f"--config.{key}={value}" for key, value in values.items()]

    def _one_set(self, steps: int) -> list[str]:
        """What a run on the larynx images alone needs: the preset mixes two data sets. And the plain transformer."""
        return [
            f"--config.data.path={self.args.larynx}",
            "--config.data.weights=1",
            f"--config.train.steps={steps}",
            *(f"--config.model.image_encoder.{key}" for key in ("stem=patch", "patch=8", "layers=4")),
        ]

    def _row(self, seed: int, arm: str, split: Path, folder: Path) -> dict:
        metrics = json.loads((folder / "eval" / "test" / "metrics.json").read_text())
        phases = [folder.with_name("mae"), folder] if arm == "pretrained" else [folder]
        scores = {name: metrics[f"{self.larynx}/{key}"] for name, key in SCORES.items()}
        return {
            "seed": seed,
            "arm": arm,
            "held_out": json.loads(split.read_text())["test"],
            "n_units": {name: score["n_units"] for name, score in scores.items()},
            "minutes_of_steps": round(sum(map(_minutes, phases)), 2),
            **{name: score["value"] for name, score in scores.items()},
        }

    def _say(self, line: str) -> None:
        print(f"[{(time.monotonic() - self.start) / 60:5.1f} min] {line}", file=sys.stderr, flush=True)


def _minutes(workdir: Path) -> float:
    """Steps of a run times the median of their time: saving, validating and starting are not in it."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "seconds_per_step" in row]
    return rows[-1]["step"] * statistics.median(row["seconds_per_step"] for row in rows) / 60


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def means(rows: list[dict]) -> dict[str, dict[str, float | None]]:
    """{arm: {score: mean over the seeds where it is defined}}."""
    out: dict[str, dict[str, float | None]] = {}
    for arm in ARMS:
        values = {name: [r[name] for r in rows if r["arm"] == arm and r[name] is not None] for name in SCORES}
        out[arm] = {name: statistics.mean(found) if found else None for name, found in values.items()}
    return out


def table(rows: list[dict]) -> str:
    """Markdown: a line a seed and arm, then the means."""
    lines = [f"| seed | held out | arm | {' | '.join(SCORES)} |", "|---" * (3 + len(SCORES)) + "|"]
    for row in rows:
        cells = [str(row["seed"]), ", ".join(row["held_out"]), row["arm"], *(_text(row[name]) for name in SCORES)]
        lines.append(f"| {' | '.join(cells)} |")
    for arm, scores in means(rows).items():
        lines.append(f"| mean | | {arm} | {' | '.join(_text(scores[name]) for name in SCORES)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, required=True, help="data set without labels (source unlabelled_frames)")
    parser.add_argument("--larynx", type=Path, required=True, help="data set of the source vocalfolds")
    parser.add_argument("--workdir", type=Path, required=True, help="all runs go here")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/mae_finetune.json"), help="default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--pretrain_steps", type=int, default=600, help="default: %(default)s")
    parser.add_argument("--finetune_steps", type=int, default=400, help="default: %(default)s")
    parser.add_argument("--batch_size", type=int, default=16, help="of every run (default: %(default)s)")
    parser.add_argument("--checkpoint_every", type=int, default=100, help="steps (default: %(default)s)")
    parser.add_argument("--config", default="configs/vlm.py:tiny_real", help="the model (default: %(default)s)")
    parser.add_argument("--pretrain_config", default="configs/pretrain/mae.py:tiny", help="default: %(default)s")
    args = parser.parse_args()
    rows = Experiment(args).run()
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in ("out", "workdir")}
    args.out.write_text(json.dumps({"settings": settings, "rows": rows, "means": means(rows)}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
