"""Pooled scores against scikit-learn, sacrebleu, rouge-score and scipy on the same predictions."""

from __future__ import annotations

import csv
import zlib

import numpy as np
import pytest
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU
from scipy import stats
from sklearn import metrics as sk

from vlm_jax.evaluation.intervals import Samples
from vlm_jax.study import scores as module
from vlm_jax.study.pool import GOLD, pooled_systems
from vlm_jax.study.scores import COLUMNS, foreign, score_variant
from vlm_jax.study.table import csv_text, latex, tex


@pytest.fixture(scope="module")
def scored(finished):
    return score_variant(finished, finished.variants[0])


@pytest.fixture(scope="module")
def pooled(finished):
    return {name: seeds for name, _, seeds in pooled_systems(finished, finished.variants[0])}


def row_of(scored, **wanted):
    [row] = [r for r in scored.rows if all(r[k] == v for k, v in wanted.items())]
    return row


def arrays(pooled, name, seed):
    frames = pooled[name][seed]["toy", "landmarks"]
    keys = sorted(frames.units)
    truth = np.stack([frames.units[k][1] for k in keys])
    chosen = np.stack([frames.chosen[GOLD][k] for k in keys])
    score = np.stack([frames.scores[GOLD][k] for k in keys])
    return truth, chosen, score, np.array([frames.units[k][0] for k in keys])


def test_every_unit_is_scored_once_for_every_system(scored, pooled):
    assert len(scored.units["toy", "landmarks"]) == 14 * 8 and len(scored.units["toy", "report"]) == 14 * 4
    for seeds in pooled.values():
        for answers in seeds:
            for scope, of in answers.items():
                assert sorted(of.units) == scored.units[scope]


def test_landmarks_equal_scikit_learn_with_seeds_averaged(scored, pooled):
    values = [arrays(pooled, "base@tiny", seed) for seed in (0, 1)]
    f1 = np.mean([sk.f1_score(t, c, average="macro") for t, c, _, _ in values])
    ap = np.mean([sk.average_precision_score(t, s, average="macro") for t, _, s, _ in values])
    where = {"system": "base@tiny", "task": "landmarks", "context": "gold"}
    assert row_of(scored, **where, metric="f1_macro")["value"] == pytest.approx(f1, abs=1e-9)
    assert row_of(scored, **where, metric="map")["value"] == pytest.approx(ap, abs=1e-9)


def test_texts_equal_sacrebleu_and_rouge(scored, pooled):
    values = []
    for seed in (0, 1):
        answers = pooled["keyword_report@tiny"][seed]["toy", "report"]
        said = [answers.texts[GOLD][k] for k in sorted(answers.units)]
        true = [answers.units[k][1][0] for k in sorted(answers.units)]
        rouge = rouge_scorer.RougeScorer(["rougeL"])
        bleu = BLEU(max_ngram_order=2, tokenize="none").corpus_score(said, [true]).score / 100
        values.append((bleu, np.mean([rouge.score(t, s)["rougeL"].fmeasure for s, t in zip(said, true, strict=True)])))
    where = {"system": "keyword_report@tiny", "task": "report", "context": "gold"}
    for metric, value in zip(("bleu2", "rouge_l"), np.mean(values, axis=0), strict=True):
        assert row_of(scored, **where, metric=metric)["value"] == pytest.approx(value, abs=1e-6)


def test_the_interval_is_scipys_over_whole_procedures_moved_by_student_s_t_over_seeds(scored, pooled):
    """Each seed's distribution and jackknife are scipy's; the mean of two moves by t with one degree of freedom."""
    values, jackknife = [], []
    for seed in (0, 1):
        truth, chosen, _, groups = arrays(pooled, "base@tiny", seed)
        names = sorted(set(groups))

        def statistic(drawn, t=truth, c=chosen, g=groups, names=names):
            rows = np.concatenate([np.flatnonzero(g == names[int(k)]) for k in drawn])
            return sk.f1_score(t[rows], c[rows], average="macro")

        everyone = np.arange(len(names))
        theirs = stats.bootstrap(
            (everyone,), statistic, vectorized=False, n_resamples=300, rng=np.random.default_rng(0)
        )
        values.append((statistic(everyone), theirs.bootstrap_distribution))
        jackknife.append([statistic(np.delete(everyone, k)) for k in everyone])
    random = np.random.default_rng(zlib.crc32(b"base@tiny"))
    t = random.normal(size=(300, 2)) / np.sqrt(random.chisquare(1, size=(300, 1)))
    each = np.array([v for v, _ in values])
    mean = np.mean([boot for _, boot in values], axis=0)
    boot = mean + t @ (each - each.mean()) / 2**0.5
    value, left = each.mean(), np.mean(jackknife, axis=0)[:, None]
    expected = Samples(("f1",), np.array([value]), boot[:, None], left, mean[:, None]).estimate("f1")
    own = row_of(scored, system="base@tiny", task="landmarks", metric="f1_macro", context="gold")
    assert (own["low"], own["high"]) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert own["n_units"] == 112 and own["n_groups"] == 14 and own["unit"] == "frame"


def test_the_table_has_the_agreed_columns_and_every_kind_of_row(scored):
    rows = list(csv.DictReader(csv_text(scored.rows).splitlines()))
    assert tuple(rows[0]) == COLUMNS
    found = {(r["system"], r["task"], r["metric"], r["context"]) for r in rows}
    assert len(found) == len(rows)
    for wanted in (
        ("base@tiny", "describe", "bleu2", "rolled_out"),
        ("base@tiny", "landmarks", "f1_macro", "empty"),
        ("base@tiny", "landmarks", "class/red/f1", "gold"),
        ("template_filler@tiny", "describe", "exact", "gold"),
        ("template_filler@tiny", "anticipate", "rouge_l", "empty"),
        ("trivial/most_frequent", "report", "bleu2", "gold"),
        ("trivial/all_positive", "landmarks", "f1_macro", "gold"),
        ("data", "landmarks", "class/red/prevalence", "gold"),
        ("base@tiny", "report", "fact_precision", "gold"),
    ):
        assert wanted in found, wanted
    assert {r["world"] for r in rows} == {"simulated"} and {r["init"] for r in rows} == {"random", "counts", ""}
    fact = row_of(scored, system="base@tiny", metric="fact_precision")
    assert fact["value"] == pytest.approx(0.9) and fact["low"] is None and fact["n_units"] == 16
    assert (
        float(next(r for r in rows if r["metric"] == "f1_macro")["value"])
        == row_of(scored, system="base@tiny", metric="f1_macro", context="gold")["value"]
    )


def test_metrics_of_the_system_itself_are_told_from_trivial_ones():
    assert foreign("toy/report/fact/precision") == ("toy", "report", "fact/precision", "gold")
    assert foreign("toy/report/context/empty/fact") == ("toy", "report", "fact", "empty")
    assert foreign("toy/report/trivial/end/bleu2") is None and foreign("toy/landmarks/class/red/f1") is None


def test_ceilings_come_from_beside_the_data(finished, scored, toy, monkeypatch):
    assert all(row["ceiling_state"] is None for row in scored.rows)
    found = {"toy/report/bleu2": {"ceiling_state": 1.0, "ceiling_inputs": 0.75}}
    monkeypatch.setattr(module, "read_ceilings", lambda paths: found)
    again = score_variant(finished, finished.variants[0])
    row = row_of(again, system="base@tiny", task="report", metric="bleu2", context="gold")
    assert (row["ceiling_state"], row["ceiling_inputs"]) == (1.0, 0.75)


def test_latex_escapes_and_has_a_table_a_task(scored):
    text = latex(scored.rows)
    assert text.count(r"\begin{table}") == 4 and r"f1\_macro" in text and r"95 \%" in text
    assert tex("a_b & 50% {x}") == r"a\_b \& 50\% \{x\}"
