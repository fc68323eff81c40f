"""How well a text can be said at best, and how much there is to know, from samples of what it could have been.

A sample is one state's futures: texts with their references. The best answer is found by minimum Bayes risk (Kumar and
Byrne 2004): of the sampled texts, the one with the highest mean score against all of them. Scored on the sample that
chose it, it is optimistic (an upper bound of the ceiling, on average); chosen on one half and scored on the other, and
the other way round, it is pessimistic. The truth lies between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlm_jax.metrics.generation import BLEU_COUNTS, bleu2
from vlm_jax.text.normalise import normalise

Truth = tuple[str, ...]
"""A text and its further wordings, normalised."""

MAX_CANDIDATES = 64
"""Of the distinct texts of a sample, the commonest are tried as answers."""


@dataclass(frozen=True)
class Score:
    """The best answer's share of exact matches, and its mean counts for corpus BLEU-2 (float64[6])."""

    exact: float
    bleu: np.ndarray


@dataclass(frozen=True)
class Ceiling:
    """One state: the best answer scored on the sample that chose it, and on what did not choose it; entropy in bits."""

    upper: Score
    lower: Score
    entropy: float


def ceiling(futures: Sequence[tuple[str, Sequence[str]]]) -> Ceiling:
    """The ceiling of one state from its futures, each a text with its references."""
    truths = [tuple(normalise(t) for t in (text, *references)) for text, references in futures]
    halves = Counter(truths[0::2]), Counter(truths[1::2])
    whole = halves[0] + halves[1]
    table = _Table(list(whole))
    crossed = [table.score(table.best(a), b) for a, b in (halves, halves[::-1]) if a and b]
    upper = table.score(table.best(whole), whole)
    lower = upper
    if crossed:
        exact = float(np.mean([s.exact for s in crossed]))
        lower = Score(exact, np.mean([s.bleu for s in crossed], axis=0))
    return Ceiling(upper, lower, entropy_bits(list(Counter(t[0] for t in truths).values())))


def entropy_bits(counts: Sequence[int] | np.ndarray) -> float:
    """Entropy of a distribution from counts, in bits, with Miller and Madow's correction (Miller 1955).

    The plug-in estimate is too low by about (k - 1) / (2 n) nats for k values seen in n draws; that is added. Where n
    is not much larger than the number of values that there are, it stays too low: it cannot exceed log2 n by much.
    """
    seen = np.asarray(counts, float)
    seen = seen[seen > 0]
    n = seen.sum()
    share = seen / n
    return float(-(share * np.log2(share)).sum() + (len(seen) - 1) / (2 * n * np.log(2)))


class _Table:
    """Counts for BLEU-2 and exact matches of every candidate against every distinct truth."""

    def __init__(self, truths: Sequence[Truth]) -> None:
        self._place = {truth: k for k, truth in enumerate(truths)}
        self._texts = list(dict.fromkeys(truth[0] for truth in truths))
        self._counts = bleu_table(self._texts, truths)
        self._exact = np.array([[text in truth for truth in truths] for text in self._texts])
        length, reference, *_ = np.moveaxis(self._counts, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            self._bleu = np.where(reference > 0, bleu2(self._counts), 0.0)

    def _weights(self, sample: Mapping[Truth, int]) -> np.ndarray:
        weights = np.zeros(len(self._place))
        for truth, n in sample.items():
            weights[self._place[truth]] = n
        return weights / weights.sum()

    def best(self, sample: Mapping[Truth, int]) -> tuple[int, int]:
        """(answer with the most exact matches, answer with the highest mean BLEU-2), as candidates' places."""
        weights = self._weights(sample)
        by_text = Counter[str]()
        for truth, n in sample.items():
            by_text[truth[0]] += n
        common = {text for text, _ in by_text.most_common(MAX_CANDIDATES)}
        allowed = np.array([text in common for text in self._texts])
        exact, bleu = (np.where(allowed, table @ weights, -1.0) for table in (self._exact, self._bleu))
        return int(exact.argmax()), int(bleu.argmax())

    def score(self, answers: tuple[int, int], sample: Mapping[Truth, int]) -> Score:
        """What these answers get on a sample."""
        weights = self._weights(sample)
        return Score(float(self._exact[answers[0]] @ weights), weights @ self._counts[answers[1]])


def bleu_table(candidates: Sequence[str], truths: Sequence[Truth]) -> np.ndarray:
    """float64[A, T, 6]: what `metrics.generation.bleu_counts` gives for every pair, all at once.

    Args:
      candidates, truths: normalised texts (words between single spaces).
    """
    out = np.zeros((len(candidates), len(truths), BLEU_COUNTS))
    said = [text.split() for text in candidates]
    told = [[text.split() for text in truth] for truth in truths]
    lengths = np.array([len(words) for words in said])
    out[..., 0] = lengths[:, None]
    for t, references in enumerate(told):
        own = np.array(sorted(len(words) for words in references))
        out[:, t, 1] = own[np.abs(lengths[:, None] - own[None]).argmin(axis=1)]
    for order in (1, 2):
        grams: dict[tuple[str, ...], int] = {}
        left = _gram_counts([[words] for words in said], order, grams)
        right = _gram_counts(told, order, grams)
        width = len(grams)
        a, b = (np.pad(m, ((0, 0), (0, width - m.shape[1]))) for m in (left, right))
        for t in range(len(truths)):
            out[:, t, 1 + order] = np.minimum(a, b[t]).sum(axis=1)
        out[..., 3 + order] = np.maximum(lengths - order + 1, 0)[:, None]
    return out


def _gram_counts(texts: Sequence[Sequence[list[str]]], order: int, grams: dict[tuple[str, ...], int]) -> np.ndarray:
    """int32[n, G]: n-grams of each text; of one with several wordings, the largest count among them."""
    rows: list[dict[int, int]] = []
    for wordings in texts:
        most: dict[int, int] = {}
        for words in wordings:
            for gram, n in Counter(zip(*(words[k:] for k in range(order)), strict=False)).items():
                place = grams.setdefault(gram, len(grams))
                most[place] = max(most.get(place, 0), n)
        rows.append(most)
    counts = np.zeros((len(rows), len(grams)), np.int32)
    for row, most in enumerate(rows):
        counts[row, list(most)] = list(most.values())
    return counts
