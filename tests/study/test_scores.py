"""Pooled scores against scikit-learn, sacrebleu, rouge-score and scipy on the same predictions."""

from __future__ import annotations

import csv
import dataclasses
import zlib

import numpy as np
import pytest
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU
from scipy import stats
from sklearn import metrics as sk

from vlm_jax.evaluation.intervals import Estimate, Groups, Samples, draws
from vlm_jax.evaluation.label_scores import LabelUnits, decided_samples
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


def ap_within(truth, score, folds):
    """float[C]: scikit-learn's average precision of each fold, weighted by the fold's positives."""
    found = np.zeros(truth.shape[1])
    for fold in np.unique(folds):
        t, s = truth[folds == fold], score[folds == fold]
        found += [
            sk.average_precision_score(t[:, c], s[:, c]) * t[:, c].sum() if t[:, c].any() else 0 for c in range(3)
        ]
    return found / truth.sum(axis=0)


def test_every_unit_is_scored_once_for_every_system(scored, pooled):
    assert len(scored.units["toy", "landmarks"]) == 14 * 8 and len(scored.units["toy", "report"]) == 14 * 4
    for seeds in pooled.values():
        for answers in seeds:
            for scope, of in answers.items():
                assert sorted(of.units) == scored.units[scope]


def test_landmarks_equal_scikit_learn_with_seeds_averaged(scored, pooled):
    values = [arrays(pooled, "base@tiny", seed) for seed in (0, 1)]
    f1 = np.mean([sk.f1_score(t, c, average="macro") for t, c, _, _ in values])
    frames = pooled["base@tiny"][0]["toy", "landmarks"].units
    folds = np.array([frames[key][3] for key in sorted(frames)])
    ap = np.mean([ap_within(t, s, folds).mean() for t, _, s, _ in values])
    where = {"system": "base@tiny", "task": "landmarks", "context": "gold"}
    assert row_of(scored, **where, metric="f1_macro")["value"] == pytest.approx(f1, abs=1e-9)
    assert row_of(scored, **where, metric="map")["value"] == pytest.approx(ap, abs=1e-9)


def test_average_precision_compares_scores_of_one_fold_alone_in_every_resample():
    """Another level of scores in one fold changes nothing; a resample is scored as its frames would be."""
    random = np.random.default_rng(0)
    truth = random.random((96, 3)) < (0.5, 0.3, 0.1)
    folds = np.repeat([0, 1, 2], 32)
    score = random.random((96, 3)) / 4 + truth / 8
    groups = Groups.build([f"g{i // 8:02d}" for i in range(96)])
    units = LabelUnits(("a", "b", "c"), truth, np.ones_like(truth), groups, folds)
    how = {"resamples": 20, "seed": 0}
    samples = decided_samples(units, score, truth, **how)
    shifted = decided_samples(units, score + folds[:, None] / 4, truth, **how)
    columns = [samples.names.index(name) for name in ("map", "map_two_sided", *(f"class/{c}/ap" for c in "abc"))]
    np.testing.assert_allclose(shifted.boot[:, columns], samples.boot[:, columns])
    assert samples.get("map") == pytest.approx(ap_within(truth, score, folds).mean())
    pooled_at_once = decided_samples(dataclasses.replace(units, models=None), score + folds[:, None] / 4, truth, **how)
    assert pooled_at_once.get("map") < samples.get("map") - 0.05
    for row, weights in enumerate(draws(12, 20, 0)):
        drawn = np.repeat(np.arange(96), weights[groups.of].astype(int))
        own = [samples.boot[row, samples.names.index(f"class/{name}/ap")] for name in "abc"]
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(own, ap_within(truth[drawn], score[drawn], folds[drawn]))


def test_a_constant_answer_has_an_average_precision_of_at_least_the_prevalence():
    """Its score is the prevalence in a fold's training groups: high where the fold's own is low."""
    folds = np.repeat([0, 1], 40)
    truth = np.arange(80)[:, None] % 10 < np.where(folds[:, None] == 0, (6, 1, 3), (2, 5, 3))
    prior = np.stack([truth[folds != fold].mean(axis=0) for fold in folds])
    groups = Groups.build([f"g{i // 10}" for i in range(80)])
    units = LabelUnits(("a", "b", "c"), truth, np.ones_like(truth), groups, folds)
    samples = decided_samples(units, prior, prior >= 0.5, resamples=10)
    found = [samples.get(f"class/{name}/ap") for name in "abc"]
    assert found == pytest.approx([(0.6 * 6 + 0.2 * 2) / 8, (0.1 * 1 + 0.5 * 5) / 6, 0.3])
    assert (np.array(found) >= units.prevalence - 1e-12).all()


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


def test_cosines_stand_beside_the_floor_of_shuffled_pairs(scored):
    """Half of the words are right: dealt to wrong units the sentences are less like their references."""
    where = {"system": "keyword_report@tiny", "task": "report", "context": "gold"}
    own = row_of(scored, **where, metric="cosine_tfidf")
    floor = row_of(scored, **where, metric="shuffled/cosine_tfidf")
    assert 0 < floor["value"] < own["value"] and floor["low"] is not None
    assert not [r for r in scored.rows if r["metric"].startswith("shuffled/") and r["system"].startswith("trivial/")]


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
    bounds = scored.samples["base@tiny", "toy", "landmarks", GOLD].estimate("f1_macro")
    assert (bounds.low, bounds.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert (own["low"], own["high"]) == (max(bounds.low, 0.0), min(bounds.high, 1.0))
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


def test_an_interval_of_a_score_stays_where_the_score_can_be(scored):
    """Two seeds leave t one degree of freedom; differences, and what contrasts read, are not clipped."""
    rows = [row for row in scored.rows if row["low"] is not None]
    assert rows and all(0 <= row["low"] <= row["high"] <= 1 for row in rows)
    raw = [samples.estimate("f1_macro") for key, samples in scored.samples.items() if key[2] == "landmarks"]
    assert any(estimate.high > 1 for estimate in raw), "without clipping some would leave it"
    assert Estimate(0.1, -1.5, 2.0).within(-1.0, 1.0) == Estimate(0.1, -1.0, 1.0)
    assert Estimate(0.1).within(0.0, 1.0) == Estimate(0.1)
    assert module.LEAST == {"cosine_minilm": -1.0}


def test_metrics_of_the_system_itself_are_told_from_trivial_ones():
    assert foreign("toy/report/fact/precision") == ("toy", "report", "fact/precision", "gold")
    assert foreign("toy/report/context/empty/fact") == ("toy", "report", "fact", "empty")
    assert foreign("toy/report/trivial/end/bleu2") is None and foreign("toy/landmarks/class/red/f1") is None
    assert foreign("toy/places/iou") is None and foreign("toy/landmarks/map") is not None


def test_ceilings_come_from_beside_the_data(finished, scored, toy, monkeypatch):
    assert all(row["ceiling_state"] is None for row in scored.rows)
    found = {"toy/report/bleu2": {"ceiling_state": 1.0, "ceiling_inputs": 0.75}}
    monkeypatch.setattr(module, "read_ceilings", lambda paths: found)
    again = score_variant(finished, finished.variants[0])
    row = row_of(again, system="base@tiny", task="report", metric="bleu2", context="gold")
    assert (row["ceiling_state"], row["ceiling_inputs"]) == (1.0, 0.75)
    rolled = row_of(again, system="base@tiny", task="report", metric="bleu2", context="rolled_out")
    assert (rolled["ceiling_state"], rolled["ceiling_inputs"]) == (1.0, None), "its inputs are others"


def test_latex_escapes_and_has_a_table_a_task(scored):
    text = latex(scored.rows)
    assert text.count(r"\begin{table}") == 4 and r"f1\_macro" in text and r"95 \%" in text
    assert tex("a_b & 50% {x}") == r"a\_b \& 50\% \{x\}"
