"""How far colour alone goes: logistic regression on colour histograms, on the split of a trained run.

    python benchmarks/colour_histograms.py --workdir runs/real-patient --out FILE.json

Landmarks: one scikit-learn LogisticRegression a class (balanced, regularisation chosen on validation), thresholds
chosen on validation by the same rule as the model's. Describe: the most frequent training description of the predicted
configuration, or of the nearest one seen in training. Printed beside the run's own scores.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from vlm_jax.config.load import read
from vlm_jax.data.run_data import RunData
from vlm_jax.data.transforms import decode_image
from vlm_jax.evaluation.run import split_units
from vlm_jax.evaluation.thresholds import choose_thresholds
from vlm_jax.metrics.classification import LabelState
from vlm_jax.metrics.generation import TextState

BINS = 6
STRENGTHS = (0.001, 0.01, 0.1, 1.0)


def histogram(image: np.ndarray) -> np.ndarray:
    """float[BINS ** 3]: joint RGB histogram of uint8[H, W, 3], square-rooted (Hellinger)."""
    counts, _ = np.histogramdd(image.reshape(-1, 3), bins=BINS, range=[(0, 256)] * 3)
    return np.sqrt(counts.ravel() / counts.sum())


def features(data: RunData, split: str, source: str):
    """Histograms [N, BINS ** 3], labels int8[N, C] (-1 unknown) and activity names of a split's frames."""
    view = data.records(split)
    units = [u for u in split_units(data, split, ("landmarks",))["landmarks"] if u.record.source == source]
    size = data.config.data.image_size
    images = [histogram(decode_image(view.record(u.row).image or b"", size)) for u in units]
    labels = np.stack([view.labels(u.row) for u in units])
    return np.stack(images), labels, [u.record.activity or "" for u in units], [u.record for u in units]


def fit_scores(train, train_labels, validation, validation_labels, others):
    """Probabilities [len(x), C] for each array of `others`; a class that is constant in training gets its constant."""
    scaler = StandardScaler().fit(train)
    n_classes = train_labels.shape[1]
    out = [np.zeros((len(x), n_classes)) for x in others]
    for c in range(n_classes):
        known = train_labels[:, c] >= 0
        truth = train_labels[known, c]
        if len(set(truth.tolist())) < 2:
            for scores in out:
                scores[:, c] = truth.mean() if len(truth) else 0.0
            continue
        held = validation_labels[:, c] >= 0
        best = None
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
            model.fit(scaler.transform(train[known]), truth)
            guess = model.predict_proba(scaler.transform(validation[held]))[:, 1]
            positive = validation_labels[held, c] == 1
            score = average_precision_score(positive, guess) if positive.any() else 0.0
            if best is None or score > best[0]:
                best = (score, model)
        for scores, x in zip(out, others, strict=True):
            scores[:, c] = best[1].predict_proba(scaler.transform(x))[:, 1]
    return out


def describe(labels, records, predicted):
    """For each predicted configuration the most frequent training description of the nearest configuration."""
    by_configuration: dict[tuple[int, ...], Counter] = {}
    for row, record in zip(labels.tolist(), records, strict=True):
        if record.description:
            by_configuration.setdefault(tuple(row), Counter())[record.description] += 1
    known = np.array(list(by_configuration))
    common = [counter.most_common(1)[0][0] for counter in by_configuration.values()]
    return [common[int(np.abs(known - row).sum(1).argmin())] for row in predicted.astype(int)]


def compare(workdir: Path, source: str) -> dict[str, float]:
    """Scores of the histogram systems on the test split of a run."""
    data = RunData.open(read(workdir / "config.json"))
    train, validation, test = (features(data, split, source) for split in ("train", "validation", "test"))
    in_validation, in_test = fit_scores(train[0], train[1], validation[0], validation[1], [validation[0], test[0]])
    slots = [c for c, name in enumerate(data.labels.names) if name.startswith(source + "/")]
    positives, negatives = data.label_counts()
    thresholds = choose_thresholds(
        in_validation,
        validation[1] == 1,
        validation[1] >= 0,
        validation[2],
        type(data.labels)(tuple(data.labels.names[c] for c in slots)),
        (positives[slots], negatives[slots]),
    )
    cut = np.array([np.inf if t is None else t for t in thresholds.values()])
    truth, known = test[1] == 1, test[1] >= 0
    two_sided = np.flatnonzero((truth & known).any(0) & (~truth & known).any(0))
    predicted = in_test >= cut
    state = LabelState.from_predictions(truth[:, two_sided], predicted[:, two_sided], known[:, two_sided])
    precision = [average_precision_score(truth[known[:, c], c], in_test[known[:, c], c]) for c in two_sided]
    rows = {u.row: u for u in split_units(data, "test", ("describe",))["describe"] if u.record.source == source}
    frames = [u.row for u in split_units(data, "test", ("landmarks",))["landmarks"] if u.record.source == source]
    place = {row: i for i, row in enumerate(frames)}
    texts = describe(train[1], train[3], predicted)
    units = [(texts[place[row]], (unit.record.description or "",)) for row, unit in rows.items() if row in place]
    text = TextState.from_texts([t for t, _ in units], [r for _, r in units]).compute()
    return {
        "landmarks/f1_macro_two_sided": state.compute()["f1_macro"],
        "landmarks/map_two_sided": float(np.mean(precision)),
        "describe/bleu2": text["bleu2"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--source", default="vocalfolds")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    scores = compare(args.workdir, args.source)
    own = json.loads((args.workdir / "eval" / "test" / "metrics.json").read_text())
    rows = {
        name: {"colour_histograms": value, "run": own[f"{args.source}/{name}"]["value"]}
        for name, value in scores.items()
    }
    for name, row in rows.items():
        print(f"{name:32s} histograms {row['colour_histograms']:.3f}   run {row['run']:.3f}")
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
