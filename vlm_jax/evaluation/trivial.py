"""The scores that cost nothing: what a model must beat. All are fitted on training units of the same source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from vlm_jax.contract import Record
from vlm_jax.evaluation.units import END_WORD, as_scored, prompt_text
from vlm_jax.tasks import TASK_TABLE
from vlm_jax.text.normalise import normalise, words

Answer = Callable[[Sequence[Record]], list[str]]
"""Sentences for records whose targets are not looked at."""


def trivial_labels(positives: np.ndarray, negatives: np.ndarray, n_units: int) -> dict[str, np.ndarray]:
    """Scores float[U, C] of the systems that see nothing; both decide at 0.5.

    Args:
      positives, negatives: int[C], known labels in training.
    """
    seen = positives + negatives
    prior = np.divide(positives, seen, out=np.zeros(len(seen)), where=seen > 0)
    return {"all_positive": np.ones((n_units, len(prior))), "prior": np.tile(prior, (n_units, 1))}


def trivial_texts(task: str, training: Sequence[Record]) -> dict[str, Answer]:
    """{name: answer} of the trivial systems of a text task, from one training record a unit; {} without any."""
    pairs = [(record, as_scored(TASK_TABLE[task].target(record) or "")) for record in training]
    if not pairs:
        return {}
    # The end is the commonest "next text" where descriptions hardly repeat; it is a constant answer of its own, `end`.
    default = most_frequent([text for _, text in pairs if text != END_WORD] or [END_WORD])
    answers: dict[str, Answer] = {
        "most_frequent": lambda records: [default] * len(records),
        "markov": _by_key(lambda record: normalise(prompt_text(task, record)), pairs, default),
    }
    if task == "anticipate":
        answers["end"] = lambda records: [END_WORD] * len(records)
    if task == "report":
        answers["keyword"] = lambda records: [_keyword_words(record) for record in records]
        answers["keyword_mode"] = _by_key(lambda record: record.keyword or "", pairs, default)
        answers["nearest"] = _nearest(pairs, default)
    return answers


def most_frequent(texts: Iterable[str]) -> str:
    """The most frequent text by its words; ties go to the first in the alphabet, so that order does not matter."""
    counts: Counter[str] = Counter()
    spelling: dict[str, str] = {}
    for text in texts:
        counts[normalise(text)] += 1
        spelling.setdefault(normalise(text), text)
    return spelling[min(counts, key=lambda key: (-counts[key], key))]


def _by_key(key: Callable[[Record], str], pairs: Sequence[tuple[Record, str]], default: str) -> Answer:
    """The most frequent training text of the record's key (previous sentence, keyword), else the default."""
    seen: dict[str, list[str]] = {}
    for record, text in pairs:
        seen.setdefault(key(record), []).append(text)
    table = {k: most_frequent(texts) for k, texts in seen.items()}
    return lambda records: [table.get(key(record), default) for record in records]


def _keyword_words(record: Record) -> str:
    return (record.keyword or "").replace("_", " ").replace("-", " ")


def _query(record: Record) -> str:
    """Keyword and context as one text; the keyword is one word of its own."""
    return f"keyword{(record.keyword or 'none').replace('_', '').replace('-', '')} {prompt_text('report', record)}"


def _nearest(pairs: Sequence[tuple[Record, str]], default: str, block: int = 256) -> Answer:
    """The sentence of the nearest training (keyword, context) by tf-idf cosine; the first of equals.

    Where no word is shared nothing is near: the default.
    """
    vectorizer = TfidfVectorizer(analyzer=words)  # pyright: ignore[reportArgumentType]
    known: Any = vectorizer.fit_transform([_query(record) for record, _ in pairs])
    transposed = known.T

    def answer(records: Sequence[Record]) -> list[str]:
        found: list[str] = []
        for start in range(0, len(records), block):
            queries = vectorizer.transform([_query(record) for record in records[start : start + block]])
            cosines = queries @ transposed
            best, near = (np.asarray(of).ravel() for of in (cosines.argmax(axis=1), cosines.max(axis=1).toarray()))
            found += [pairs[i][1] if cosine > 0 else default for i, cosine in zip(best, near, strict=True)]
        return found

    return answer
