"""What simple readers of one image reach on the simulator, and what each nuisance costs. Never tuned against.

    python benchmarks/probes.py --workdir runs/probes

Probes: logistic regression on colour histograms, logistic regression on 8 x 8 thumbnails, and `tiny` after 1,200 steps
(ten minutes on one idle core), with and without the previous description. Test parts: procedures held out (one fold of
five), and one centre held out, each of the five in turn for the regressions, the last for `tiny`. Then the held-out
procedures are rendered anew under each nuisance at set strengths and `tiny` is scored on them. Finished parts are not
repeated. Writes a JSON file, the tables in docs/results/probes.md and a plot beside it. Everything is simulated.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from charts import line_chart
from colour_histograms import fit_scores, histogram
from runs import train_and_score, vlm_jax, write_page
from sklearn.exceptions import ConvergenceWarning

from vlm_jax.config.load import load_config
from vlm_jax.contract import Record
from vlm_jax.data.collate import make_batch
from vlm_jax.data.joins import join_activities
from vlm_jax.data.progress import Progress
from vlm_jax.data.run_data import RunData
from vlm_jax.data.store import open_dataset
from vlm_jax.data.transforms import decode_image
from vlm_jax.decoding.system import System
from vlm_jax.evaluation.intervals import Groups
from vlm_jax.evaluation.label_scores import LabelUnits, label_samples
from vlm_jax.evaluation.run import split_units
from vlm_jax.evaluation.thresholds import choose_thresholds
from vlm_jax.simulator import SimulatorConfig, make_procedure, nuisance
from vlm_jax.simulator.version import identity

CONFIG = SimulatorConfig(seed=3, activities_per_procedure=24, frames_per_procedure=96, image_size=64)
PRESET, STEPS = "configs/vlm.py:tiny", 1200
STRENGTHS = (0.0, 0.5, 1.0)
NUISANCES = (*nuisance.STRENGTHS, "instruments")
METRICS = {"f1_macro": "macro-F1", "map": "mAP"}
PROCEDURES = "procedures"
"""The test part that is a fold of procedures; the others are named after the centre that is held out."""


def thumbnail(image: np.ndarray) -> np.ndarray:
    """float[192]: uint8[H, W, 3] at 8 x 8 pixels, in 0-1."""
    return cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).ravel() / 255.0


PROBES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "colour histograms, logistic regression": histogram,
    "8 x 8 thumbnails, logistic regression": thumbnail,
}


@dataclass(frozen=True)
class Part:
    """Frames of one split: images uint8[N, S, S, 3], truth and known bool[N, C], groups and activities."""

    images: list[np.ndarray]
    truth: np.ndarray
    known: np.ndarray
    groups: list[str]
    activities: list[str]

    @property
    def labels(self) -> np.ndarray:
        """int[N, C], -1 where not known."""
        return np.where(self.known, self.truth, -1)


def read_part(data: RunData, split: str) -> Part:
    """The frames that the evaluation scores landmarks on."""
    view = data.records(split)
    units = split_units(data, split, ("landmarks",))["landmarks"]
    labels = np.stack([view.labels(u.row) for u in units])
    images = [decode_image(view.record(u.row).image or b"", data.config.data.image_size) for u in units]
    procedures, activities = zip(*((u.record.procedure, u.record.activity or "") for u in units), strict=True)
    return Part(images, labels == 1, labels >= 0, list(procedures), list(activities))


def score(names: Sequence[str], part: Part, found: np.ndarray, thresholds: Sequence[float | None]) -> dict[str, Any]:
    """{metric: [value, low, high]} of probabilities float[N, C]; whole procedures are resampled."""
    units = LabelUnits(tuple(names), part.truth, part.known, Groups.build(part.groups))
    samples = label_samples(units, found, thresholds)
    estimates = {name: samples.estimate(name) for name in METRICS}
    return {name: [e.value, e.low, e.high] for name, e in estimates.items()}


# --- Test parts and probes --------------------------------------------------------------------------------------------


def split_rules(folder: Path, data: Path) -> dict[str, str]:
    """{test part: rule of `data.split`}: a fold of procedures, and each centre's procedures in a list file."""
    rules = {PROCEDURES: "kfold:5:0"}
    procedures = open_dataset(data).tables.procedures
    for centre in sorted({p.centre or "" for p in procedures}):
        file = folder / f"{centre}.json"
        file.write_text(json.dumps({"test": [p.patient for p in procedures if p.centre == centre]}))
        rules[centre] = f"list:{file}"
    return rules


def probe(data: RunData) -> dict[str, Any]:
    """Scores on test of the trivial system and of the regressions, their thresholds chosen on validation."""
    train, validation, test = (read_part(data, split) for split in ("train", "validation", "test"))
    names = [name.split("/", 1)[1] for name in data.labels.names]
    every = np.ones(test.truth.shape)
    scores = {"all_positive": score(names, test, every, [0.5] * len(names))}
    for name, features in PROBES.items():
        x = [np.stack([features(image) for image in part.images]) for part in (train, validation, test)]
        found = fit_scores(x[0], train.labels, x[1], validation.labels, [x[1], x[2]])
        thresholds = choose_thresholds(
            found[0], validation.truth, validation.known, validation.activities, data.labels, data.label_counts()
        )
        scores[name] = score(names, test, found[1], [thresholds[label] for label in data.labels.names])
    return scores


def tiny(folder: Path) -> dict[str, Any]:
    """The trained model's scores on test, with the previous description and without any text."""
    metrics = json.loads((folder / "eval" / "test" / "metrics.json").read_text())

    def row(within: str) -> dict[str, Any]:
        entries = {name: metrics[f"fess/landmarks/{within}{name}"] for name in METRICS}
        return {name: [e["value"], e["low"], e["high"]] for name, e in entries.items()}

    return {"tiny, image alone": row("context/empty/"), "tiny, image and previous description": row("")}


# --- Nuisances --------------------------------------------------------------------------------------------------------


def rendered(config: SimulatorConfig, ids: Sequence[str]) -> Iterator[tuple[Record, tuple[int | None, ...]]]:
    """(record with gold text, labels) of one frame an activity."""
    for id in ids:
        bundle = make_procedure(config, id)
        neighbours = join_activities(bundle.activities)
        place = {activity.id: i for i, activity in enumerate(bundle.activities)}
        for frame in bundle.frames:
            i = place.pop(frame.activity or "", None)
            if i is not None and frame.assessable:
                previous = neighbours[i].previous
                yield (
                    Record(frame.uid, "fess", id, id, image=frame.image, previous=previous),
                    bundle.activities[i].landmarks,
                )


def under(system: System, config: SimulatorConfig, ids: Sequence[str]) -> dict[str, Any]:
    """Scores of a trained system on procedures rendered under these settings, with gold text and without."""
    records, labels = zip(*rendered(config, ids), strict=True)
    truth = np.array(labels) == 1
    part = Part([], truth, np.ones_like(truth), [r.procedure for r in records], [])
    names = [name.split("/", 1)[1] for name in system.labels.names]
    thresholds = [system.thresholds[name] for name in system.labels.names]
    found = {}
    for context, rows in (("gold", records), ("empty", [replace(r, previous=None) for r in records])):
        batches = [_batch(system, rows[i : i + 32]) for i in range(0, len(rows), 32)]
        probabilities = np.concatenate([system.probabilities(b) for b in batches])[: len(rows)]
        found[context] = score(names, part, probabilities, thresholds)
    return found


def _batch(system: System, rows: Sequence[Record]) -> Any:
    padded = [*rows, *[None] * (32 - len(rows))]
    return make_batch(padded, system.tokenizer, system.labels, system.config)


def nuisances(workdir: Path, base: SimulatorConfig, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """{nuisance: {strength: scores}}: one is set, the others stay as they are by default; kept as they come."""
    kept = workdir / "nuisances.json"
    done = json.loads(kept.read_text()) if kept.is_file() else {"simulator": identity(base), "found": {}}
    if done["simulator"] != identity(base):
        sys.exit(f"{kept} is of another simulator ({done['simulator']}): remove it, or give another --workdir")
    system = System.from_checkpoint(str(workdir / "tiny-procedures"))
    with Progress("point", len(NUISANCES) * len(STRENGTHS), "settings") as bar:
        for name in NUISANCES:
            for strength in STRENGTHS:
                found = done["found"].setdefault(name, {})
                if str(strength) not in found:
                    found[str(strength)] = under(system, replace(base, **{name: strength}), ids)
                    kept.write_text(json.dumps(done, indent=1))
                bar.step(f"{name} {strength:g}")
    return done["found"]


# --- The page ---------------------------------------------------------------------------------------------------------


def tables(result: dict[str, Any]) -> str:
    """Markdown: probes by test part, then macro-F1 by nuisance and strength."""
    parts = result["parts"]
    lines = ["| test part | system | " + " | ".join(METRICS.values()) + " |", "|---" * 4 + "|"]
    for part, systems in parts.items():
        held = "procedures" if part == PROCEDURES else f"{part}, held out"
        for name, row in systems.items():
            lines.append(f"| {held} | {name} | " + " | ".join(_cell(row[metric]) for metric in METRICS) + " |")
    if not result["nuisances"]:
        return "\n".join(lines)
    lines += ["", "| nuisance | " + " | ".join(f"at {s:g}" for s in STRENGTHS) + " | without text, at 0 | at 1 |"]
    lines += ["|---" * (len(STRENGTHS) + 3) + "|"]
    for name, found in result["nuisances"].items():
        cells = [_cell(found[str(s)]["gold"]["f1_macro"]) for s in STRENGTHS]
        cells += [_cell(found[str(s)]["empty"]["f1_macro"]) for s in (STRENGTHS[0], STRENGTHS[-1])]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Sequence[float | None]) -> str:
    value, low, high = row
    text = "-" if value is None else f"{value:.3f}"
    return text if low is None or high is None else f"{text} [{low:.3f}, {high:.3f}]"


def chart(result: dict[str, Any]) -> str:
    """SVG: macro-F1 of tiny by strength, a line a nuisance; the axis spans what there is, in tenths."""
    curves = {
        name: [(s, found[str(s)]["gold"]["f1_macro"][0]) for s in STRENGTHS]
        for name, found in result["nuisances"].items()
    }
    values = [value for points in curves.values() for _, value in points]
    span = (np.floor(10 * min(values)) / 10, np.ceil(10 * max(values)) / 10)
    title = f"tiny on {result['simulator']} (simulated): macro-F1 of landmarks, with the previous description"
    return line_chart(curves, title, "mean strength", span)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="data and runs go here")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/probes.json"), help="default: %(default)s")
    parser.add_argument("--page", type=Path, default=Path("docs/results/probes.md"), help="default: %(default)s")
    parser.add_argument("--procedures", type=int, default=30, metavar="N", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=STEPS, help="of tiny (default: %(default)s)")
    return parser.parse_args()


def publish(args: argparse.Namespace, result: dict[str, Any]) -> None:
    """The JSON file, the page and the plot, of what is done."""
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    parts = [tables(result)]
    if len(result["nuisances"]) == len(NUISANCES):
        parts.append("![tiny under each nuisance, simulated](nuisances_simulated.svg)")
        args.page.with_name("nuisances_simulated.svg").write_text(chart(result))
    else:
        parts.append("Not all of it has been run yet: the command above goes on.")
    write_page(args.page, "probes", "\n\n".join(parts))


def simulate(args: argparse.Namespace, base: SimulatorConfig) -> Path:
    """The data set of all parts; nothing is done where it is there."""
    sizes = ("procedures", "activities_per_procedure", "frames_per_procedure", "image_size", "seed")
    words = [word for key in sizes for word in (f"--{key}", f"{getattr(base, key)}")]
    vlm_jax("data", "simulate", "--out", str(args.workdir / "data"), *words)
    return args.workdir / "data"


def main() -> None:
    args = parse()
    warnings.simplefilter("ignore", ConvergenceWarning)
    base = replace(CONFIG, procedures=args.procedures)
    args.workdir.mkdir(parents=True, exist_ok=True)
    data = simulate(args, base)
    rules = split_rules(args.workdir, data)
    settings = {
        part: {"data.path": str(data), "data.split": rule, "train.steps": str(args.steps)}
        for part, rule in rules.items()
    }
    opened = {part: RunData.open(load_config(PRESET, some)) for part, some in settings.items()}
    result = {"simulator": identity(base), "world": "simulated", "steps": args.steps, "nuisances": {}}
    result["parts"] = parts = {part: probe(some) for part, some in opened.items()}
    publish(args, result)
    for part in (PROCEDURES, list(rules)[-1]):
        train_and_score(PRESET, folder := args.workdir / f"tiny-{part}", settings[part], "gold,empty")
        parts[part] |= tiny(folder)
        publish(args, result)
    units = split_units(opened[PROCEDURES], "test", ("landmarks",))["landmarks"]
    result["nuisances"] = nuisances(args.workdir, base, sorted({u.record.procedure for u in units}))
    publish(args, result)
    print(tables(result))


if __name__ == "__main__":
    main()
