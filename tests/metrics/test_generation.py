"""Sentences against sacrebleu and rouge_score."""

from __future__ import annotations

import numpy as np
import pytest
from rouge_score import rouge_scorer
from sacrebleu.metrics.bleu import BLEU

from vlm_jax.metrics.generation import TextState, bleu2, bleu_counts, exact, rouge_l
from vlm_jax.text.normalise import normalise, words

VOCABULARY = ["the", "nasal", "septum", "is", "at", "3", "o'clock", ",", "left", "polyp", "no", "concha", "Über"]


class _Tokens:
    def tokenize(self, text):
        return words(text)


def _corpus(seed: int, units: int = 40):
    rng = np.random.default_rng(seed)

    def sentence(low=0):
        return " ".join(rng.choice(VOCABULARY, rng.integers(low, 12)))

    return [sentence() for _ in range(units)], [[sentence(1) for _ in range(rng.integers(1, 4))] for _ in range(units)]


def _sacrebleu(predictions, references):
    width = max(map(len, references))
    streams = [[normalise(r[i]) if i < len(r) else None for r in references] for i in range(width)]
    scorer = BLEU(max_ngram_order=2, tokenize="none")
    return scorer.corpus_score([normalise(p) for p in predictions], streams).score / 100


@pytest.mark.parametrize("seed", range(8))
def test_bleu2_equals_sacrebleu(seed):
    predictions, references = _corpus(seed)
    assert TextState.from_texts(predictions, references).compute()["bleu2"] == pytest.approx(
        _sacrebleu(predictions, references), abs=1e-6
    )


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [("nasal septum", "septum nasal"), ("nasal", "nasal"), ("polyp", "nasal septum"), ("", "nasal septum"),
     ("the the the the", "the nasal"), ("nasal septum seen", "nasal septum seen"), ("nasal", "a nasal septum")],
)  # fmt: skip
def test_bleu2_of_corner_cases_equals_sacrebleu(prediction, reference):
    assert float(bleu2(bleu_counts(prediction, [reference]))) == pytest.approx(
        _sacrebleu([prediction], [[reference]]), abs=1e-6
    )


@pytest.mark.parametrize("seed", range(4))
def test_rouge_l_equals_rouge_score(seed):
    predictions, references = _corpus(seed)
    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Tokens())
    best = [
        max(scorer.score(r, p)["rougeL"].fmeasure for r in refs)
        for p, refs in zip(predictions, references, strict=True)
    ]
    assert TextState.from_texts(predictions, references).compute()["rouge_l"] == pytest.approx(np.mean(best), abs=1e-6)


def test_letters_outside_ascii_count():
    assert rouge_l("Über", ["über"]) == 1.0
    assert rouge_l("Über", ["ber"]) == 0.0


def test_exact_compares_words_not_spelling():
    assert exact("No polyp , left.", ["seen", "no polyp, left ."]) == 1.0
    assert exact("no polyp", ["polyp"]) == 0.0


def test_states_merge_to_the_whole():
    predictions, references = _corpus(3)
    whole = TextState.from_texts(predictions, references)
    parts = TextState.from_texts(predictions[:7], references[:7]) | TextState.from_texts(
        predictions[7:], references[7:]
    )
    assert parts.compute() == pytest.approx(whole.compute())
    assert parts.units == 40


def test_no_units_are_undefined():
    assert all(np.isnan(v) for v in TextState().compute().values())


def test_bleu2_of_many_sums_at_once():
    predictions, references = _corpus(5)
    counts = np.stack([bleu_counts(p, r) for p, r in zip(predictions, references, strict=True)])
    together = bleu2(np.stack([counts[:20].sum(0), counts.sum(0)]))
    assert together[0] == pytest.approx(float(bleu2(counts[:20].sum(0))))
    assert together[1] == pytest.approx(_sacrebleu(predictions, references), abs=1e-6)
