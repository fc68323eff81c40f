"""What benchmarks/rare_classes.py reads of finished runs: F1 and average precision of rare landmarks, and the table."""

from __future__ import annotations

import numpy as np
from runs import ratio, shown

from vlm_jax.evaluation.intervals import Groups, Samples
from vlm_jax.metrics.classification import average_precisions, counts_of, scores

COLUMNS = ("rare", "common", "macro", "rare_ap", "rare_best")


def one_run(rows: list[dict], labels: tuple[str, ...], rare: np.ndarray) -> Samples:
    """COLUMNS of one run: F1 of the rare and common landmarks and of all; of the rare ones what hangs on no choice of
    thresholds, average precision and the highest F1 that any threshold has on these very frames."""
    groups = Groups.build([row["procedure"] for row in rows if "landmarks" in row])
    score, truth, predicted, known = _answers(rows, labels)
    sums = groups.sums(counts_of(truth, predicted, known))  # [G, C, 4]

    def fn(weights: np.ndarray) -> np.ndarray:
        f1 = scores(np.tensordot(weights, sums, axes=(1, 0))).f1
        precision = average_precisions(score[:, rare], truth[:, rare], known[:, rare], weights, groups.of)
        best = best_f1(score[:, rare], truth[:, rare], weights[:, groups.of])
        parts = (f1[:, rare], f1[:, ~rare], f1, precision, best)
        return np.stack([np.nanmean(part, axis=1) for part in parts], axis=1)

    return Samples.draw(COLUMNS, fn, len(groups), resamples=2000)


def best_f1(score: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float[R, C]: the highest F1 of any threshold, in hindsight; nan without a positive. `weights` float[R, U]."""
    found = []
    for s, t in zip(score.T, truth.T, strict=True):
        order = np.argsort(-s, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(s[order]) != 0, True))  # equal scores are on one side of any threshold
        w, hit = weights[:, order], weights[:, order] * t[order]
        f1 = 2 * hit.cumsum(1) / np.maximum(w.cumsum(1) + hit.sum(1, keepdims=True), 1e-9)
        found.append(np.where(hit.any(1), f1[:, ends].max(1), np.nan))
    return np.stack(found, axis=1)


def score_table(runs: dict[str, Samples]) -> dict[str, list[float | None]]:
    """`<system>/COLUMN`, `.../minus_plain` and `<system>/recovery`: [value, low, high].

    Args:
      runs: of each row of the table, seeds averaged; all on the same frames and draws.
    """
    gains = {system: samples.minus(runs["plain"]) for system, samples in runs.items()}
    whole = gains["balanced"].column("rare")
    found = {}
    for system, samples in runs.items():
        for column in COLUMNS:
            found |= {f"{system}/{column}": samples.estimate(column)}
            found |= {f"{system}/{column}/minus_plain": gains[system].estimate(column)}
        part = gains[system].column("rare")
        pairs = [(getattr(part, name), getattr(whole, name)) for name in ("value", "boot", "jackknife", "of_groups")]
        found[f"{system}/recovery"] = Samples(part.names, *(ratio(a, b) for a, b in pairs)).estimate("rare")
    return {name: [e.value, e.low, e.high] for name, e in found.items()}


def _answers(rows: list[dict], labels: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    """(scores float, truth, predicted, known bool) [U, C] of one run's frames."""
    cells = [[row["landmarks"][name] for name in labels] for row in rows if "landmarks" in row]
    score = np.array([[float(c["score"]) for c in row] for row in cells])
    truth = np.array([[bool(c["true"]) for c in row] for row in cells])
    predicted = np.array([[bool(c["predicted"]) for c in row] for row in cells])
    return score, truth, predicted, np.array([[c["true"] is not None for c in row] for row in cells])


def tables(result: dict) -> str:
    """Who is rare, then each system beside plain."""
    lines = ["| landmark | pilot | plain | balanced | test |", "|---|---|---|---|---|"]
    for name, shares in result["share_of_activities"].items():
        lines.append(f"| {name} | {' | '.join(f'{100 * share:.1f} %' for share in shares.values())} |")
    heads = (
        "rare: F1",
        "gain",
        "recovery",
        "common: F1",
        "gain",
        "all: macro-F1",
        "gain",
        "rare: AP",
        "gain",
        "rare: best F1",
        "gain",
    )
    lines += ["", f"| system | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 1)]
    scores = result["scores"]
    told = (scores["balanced/rare/minus_plain"][1] or 0) > 0  # a ratio over what may be nothing is no number
    for system in dict.fromkeys(key.split("/")[0] for key in scores):
        cells = []
        for column in COLUMNS:
            gain = "-" if system == "plain" else shown(scores[f"{system}/{column}/minus_plain"], "+.3f")
            cells += [shown(scores[f"{system}/{column}"]), gain]
        kept = told and system not in ("plain", "balanced")
        recovery = shown(scores[f"{system}/recovery"], ".2f") if kept else "-"
        lines.append(f"| {system} | {' | '.join([*cells[:2], recovery, *cells[2:]])} |")
    if not told:
        lines += ["", "No recovery is given: the interval of what the balanced set brings in F1 holds zero."]
    return "\n".join(lines)
