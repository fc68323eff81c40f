"""Clusters of near-duplicate texts: what must never lie on both sides of a split.

Exact Jaccard similarity of word shingles over an inverted index: no sampling, so no seed, and some thousand notes
take seconds. Similar pairs are joined transitively (union-find).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

SHINGLE = 5
"""Words a shingle: stock phrases are shorter, copied passages longer."""
THRESHOLD = 0.15
"""Jaccard similarity from which two texts are near-duplicates. Low on purpose: from about here on two notes are one
surgeon's template filled in twice, which is what a split by note must not tear apart."""


def shingles(text: str, size: int = SHINGLE) -> frozenset[tuple[str, ...]]:
    """The set of `size` successive words, lower case, punctuation ignored; a shorter text is one shingle."""
    words = re.findall(r"\w+", text.lower())
    return frozenset(tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1)))


def similar_pairs(texts: Sequence[str], threshold: float = THRESHOLD) -> list[tuple[int, int, float]]:
    """All pairs (i, j, Jaccard) with i < j and a similarity of at least `threshold`, in order."""
    sets = [shingles(text) for text in texts]
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    pairs = []
    for j, items in enumerate(sets):
        shared: Counter[int] = Counter()
        for item in items:
            shared.update(index[item])
            index[item].append(j)
        for i, common in sorted(shared.items()):
            similarity = common / (len(sets[i]) + len(items) - common)
            if similarity >= threshold:
                pairs.append((i, j, similarity))
    return pairs


def clusters(texts: Sequence[str], threshold: float = THRESHOLD) -> list[int]:
    """For each text the index of the first text of its cluster (its own, where it stands alone)."""
    first = list(range(len(texts)))

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    for i, j, _ in similar_pairs(texts, threshold):
        low, high = sorted((root(i), root(j)))
        first[high] = low
    return [root(i) for i in range(len(texts))]
