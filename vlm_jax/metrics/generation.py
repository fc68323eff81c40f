"""Sentences against references: BLEU-2, ROUGE-L and exact match, on the words of `text.normalise`.

BLEU-2 is sacrebleu's corpus BLEU with `max_ngram_order=2` and its default smoothing, on a 0-1 scale; ROUGE-L is
rouge_score's F1. Both count through their library; the corpus formula is ours, so that it can run on the summed counts
of any number of resamples at once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rouge_score import rouge_scorer
from rouge_score.tokenizers import Tokenizer as RougeTokenizer
from sacrebleu.metrics.bleu import BLEU

from vlm_jax.text.normalise import normalise, words

BLEU_COUNTS = 6
"""Sums per unit: predicted words, closest reference words, matched 1-grams, 2-grams, predicted 1-grams, 2-grams."""


class _Words(RougeTokenizer):
    """Our words, for rouge_score: its own tokeniser drops every letter outside ASCII."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@functools.cache
def _bleu() -> BLEU:
    return BLEU(max_ngram_order=2, tokenize="none", effective_order=True)


@functools.cache
def _rouge() -> rouge_scorer.RougeScorer:
    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Words())


def bleu_counts(prediction: str, references: Sequence[str]) -> np.ndarray:
    """float64[6] of one unit, see `BLEU_COUNTS`; counts are clipped against the best of the references."""
    s = _bleu().sentence_score(normalise(prediction), [normalise(r) for r in references])
    return np.array([s.sys_len, s.ref_len, *s.counts, *s.totals], dtype=np.float64)


def bleu2(counts: np.ndarray) -> np.ndarray:
    """Corpus BLEU-2, 0-1, from summed counts float[..., 6].

    Papineni et al. 2002 with sacrebleu's `exp` smoothing: an order without a match counts as half a match. Nan where
    there is no reference word.
    """
    length, reference, m1, m2, t1, t2 = np.moveaxis(np.asarray(counts, float), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        brevity = np.where(length < reference, np.exp(1 - reference / length), 1.0)
        second = np.where(m2 > 0, m2, 0.5) / t2
        score = brevity * np.sqrt(m1 / t1 * second)
    # No match at all, or predictions of one word each: sacrebleu gives 0 without effective_order.
    score = np.where((m1 > 0) & (t2 > 0), score, 0.0)
    return np.where(reference > 0, score, np.nan)


@functools.lru_cache(maxsize=65536)
def _rouge_l(prediction: str, references: tuple[str, ...]) -> float:
    return float(_rouge().score_multi(list(references), prediction)["rougeL"].fmeasure)


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """ROUGE-L F1 (Lin 2004), 0-1, of one unit: the best over its references."""
    return _rouge_l(prediction, tuple(references))


def exact(prediction: str, references: Sequence[str]) -> float:
    """1.0 where the words equal those of one of the references, else 0.0."""
    return float(normalise(prediction) in {normalise(r) for r in references})


@dataclass(frozen=True)
class TextState:
    """What units (one sentence each) come to when scored as they pass: a value that merges, as clu.metrics' do.

    Plain numpy, on the host. `evaluation` sums the same numbers by group instead, for it needs resamples.
    """

    bleu: np.ndarray = field(default_factory=lambda: np.zeros(BLEU_COUNTS))
    rouge: float = 0.0
    exact: float = 0.0
    units: int = 0

    @classmethod
    def from_texts(cls, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> TextState:
        """One prediction and at least one reference a unit."""
        state = cls()
        for p, refs in zip(predictions, references, strict=True):
            state |= cls(bleu_counts(p, refs), rouge_l(p, refs), exact(p, refs), 1)
        return state

    def merge(self, other: TextState) -> TextState:
        return TextState(
            self.bleu + other.bleu, self.rouge + other.rouge, self.exact + other.exact, self.units + other.units
        )

    __or__ = merge

    def compute(self) -> dict[str, float]:
        """bleu2, rouge_l and exact; nan without units."""
        n = self.units or float("nan")
        return {"bleu2": float(bleu2(self.bleu)), "rouge_l": self.rouge / n, "exact": self.exact / n}
