"""A WordPiece vocabulary from word counts, the same from the same texts on every run.

The trainer of the `tokenizers` package walks hash maps in random order and returns another vocabulary each time
(tried with 0.23.3), which would break "same seed, same bytes"; corpora here are small, so plain Python will do.
"""

from __future__ import annotations

import heapq
import string
from collections import Counter, defaultdict
from collections.abc import Mapping

CONTINUATION = "##"

Pair = tuple[str, str]


def _pieces(word: str) -> list[str]:
    return [word[0], *(CONTINUATION + c for c in word[1:])]


def _joined(pair: Pair) -> str:
    return pair[0] + pair[1].removeprefix(CONTINUATION)


def alphabet(word_counts: Mapping[str, int]) -> list[str]:
    """Single characters, first and continuing form: ASCII letters and digits always, so no plain word is unknown."""
    basic = set(string.ascii_lowercase + string.digits)
    seen = {p for word in word_counts for p in _pieces(word)}
    return sorted(seen | basic | {CONTINUATION + c for c in basic} | set(string.punctuation))


class _Merger:
    """Words as lists of pieces, with pair counts kept up to date from merge to merge."""

    def __init__(self, word_counts: Mapping[str, int]):
        ordered = sorted(word_counts)
        self.words = [_pieces(w) for w in ordered]
        self.counts = [word_counts[w] for w in ordered]
        self.pairs: Counter[Pair] = Counter()
        self.where: dict[Pair, set[int]] = defaultdict(set)
        for i in range(len(self.words)):
            self._count(i, +1)
        self.heap = [(-n, pair) for pair, n in self.pairs.items()]
        heapq.heapify(self.heap)

    def _count(self, i: int, sign: int) -> set[Pair]:
        pieces = self.words[i]
        touched = set(zip(pieces, pieces[1:], strict=False))
        for pair in zip(pieces, pieces[1:], strict=False):
            self.pairs[pair] += sign * self.counts[i]
        for pair in touched:
            if sign > 0:
                self.where[pair].add(i)
            else:
                self.where[pair].discard(i)
        return touched

    def best(self) -> Pair | None:
        """The most frequent pair, ties in alphabetical order; None when no pair occurs twice."""
        while self.heap:
            negative, pair = heapq.heappop(self.heap)
            if self.pairs[pair] == -negative:  # else an outdated entry: a fresh one was pushed
                return pair if -negative >= 2 else None
        return None

    def merge(self, pair: Pair) -> None:
        """Joins `pair` in every word that holds it."""
        touched: set[Pair] = set()
        for i in sorted(self.where[pair]):
            touched |= self._count(i, -1)
            merged: list[str] = []
            for piece in self.words[i]:
                if merged and (merged[-1], piece) == pair:
                    merged[-1] = _joined(pair)
                else:
                    merged.append(piece)
            self.words[i] = merged
            touched |= self._count(i, +1)
        for changed in touched:
            if self.pairs[changed] > 0:
                heapq.heappush(self.heap, (-self.pairs[changed], changed))


def train_wordpiece(word_counts: Mapping[str, int], size: int) -> list[str]:
    """At most `size` pieces (alphabet first, then merges by frequency), without special tokens.

    Args:
      word_counts: lower-case words as the pre-tokeniser splits them, with their number of occurrences.
      size: upper bound; an alphabet larger than that is kept whole, for a missing letter makes its words unknown.
    """
    vocabulary = dict.fromkeys(alphabet(word_counts))
    merger = _Merger(word_counts)
    while len(vocabulary) < size and (pair := merger.best()) is not None:
        vocabulary[_joined(pair)] = None
        merger.merge(pair)
    return list(vocabulary)
