"""From a run's training descriptions to the tables of the hidden Markov model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vlm_jax.config.schema import Config
from vlm_jax.contract import END, START, Record
from vlm_jax.data.run_data import RunData
from vlm_jax.errors import UserError
from vlm_jax.evaluation.units import find_units
from vlm_jax.models.baselines.baum_welch import Fitted, Observed, assign, fit
from vlm_jax.models.baselines.hmm import NEVER
from vlm_jax.text.normalise import mirror
from vlm_jax.text.prompts import encode_target
from vlm_jax.text.tokenizer import UNKNOWN, Tokenizer


def fit_hmm(model: Any, data: RunData, config: Config) -> tuple[dict[str, np.ndarray], list[str]]:
    """Fits the HMM on the descriptions of the training split, in the order of time.

    Args:
      model: `models.baselines.hmm.Hmm`, for its sizes.
      data, config: of the run. With `augment.flip` every sequence counts in its mirror image, too.

    Returns:
      The parameters of `model`, and what is to be said of the fit.

    Raises:
      UserError: the training split has no description.
    """
    view = data.records("train")
    units = find_units(range(len(view)), lambda row: view.record(row, image=False))["describe"]
    chains: dict[tuple[str, ...], list[Any]] = {}
    for unit in units:
        chains.setdefault(unit.chain, []).append(unit)
    sequences = [s for chain in chains.values() for s in sequences_of([u.record for u in by_time(chain)])]
    if not sequences:
        raise UserError("no descriptions in the training split: the hmm has nothing to fit; see data.path, data.split")
    if config.augment.flip:
        sequences += [[_mirrored(text) for text in sequence] for sequence in sequences]
    sentences = sorted({text for sequence in sequences for text in sequence})
    observed = observe(sequences, sentences, data.tokenizer)
    counts = np.bincount(np.concatenate(observed.sequences), minlength=len(sentences)).astype(np.float64)
    hmm = config.model.hmm
    n = min(model.states, len(sentences))
    fitted = fit(observed, assign(observed.words, counts, n), n, smoothing=hmm.smoothing, iterations=hmm.iterations)
    params, left_out = _tables(model, fitted, sentences, counts, data.tokenizer)
    lines = [
        f"hmm: {n} states over {len(sentences)} sentences in {len(sequences)} sequences, "
        f"{len(fitted.objective) - 1} iterations of Baum-Welch, log-likelihood {fitted.expected.log_likelihood:.1f}"
    ]
    if left_out:
        lines.append(f"hmm: the {left_out} rarest sentences are never answered; raise model.hmm.sentences")
    return params, lines


def by_time(units: Sequence[Any]) -> list[Any]:
    """The units of one video in the order of time."""
    return sorted(units, key=lambda unit: unit.order)


def sequences_of(records: Sequence[Record]) -> list[list[str]]:
    """The descriptions of one video's records, with what came before the first and after the last.

    A gap (the neighbour is not among the records) ends a sequence: what stands on either side of it is still known.
    """
    out: list[list[str]] = []
    last: Record | None = None
    for record in records:
        text = record.description or ""
        follows = last is not None and last.next_description == text and record.previous == last.description
        if not follows:
            _close(out, last)
            out.append([] if record.previous is None else [record.previous])
        out[-1].append(text)
        last = record
    _close(out, last)
    return out


def _close(sequences: list[list[str]], last: Record | None) -> None:
    if last is not None and last.next_description is not None:
        sequences[-1].append(last.next_description)


def _mirrored(text: str) -> str:
    return text if text in (START, END) else mirror(text)


def observe(sequences: Sequence[Sequence[str]], sentences: Sequence[str], tokenizer: Tokenizer) -> Observed:
    """Word counts of each distinct sentence, and the sequences as rows of them. Unknown words say nothing."""
    words = np.zeros((len(sentences), tokenizer.size))
    for row, text in enumerate(sentences):
        ids = [tokenizer.id(text)] if text in (START, END) else tokenizer.encode(text)
        np.add.at(words[row], ids, 1)
    words[:, tokenizer.id(UNKNOWN)] = 0
    place = {text: row for row, text in enumerate(sentences)}
    return Observed(words, tuple(np.array([place[text] for text in s], np.int64) for s in sequences))


def _tables(
    model: Any, fitted: Fitted, sentences: Sequence[str], counts: np.ndarray, tokenizer: Tokenizer
) -> tuple[dict[str, np.ndarray], int]:
    """The parameters of the model, and how many sentences its list has no room for."""
    n, occupied = len(fitted.parameters.start), fitted.expected.occupied
    order = sorted((i for i in range(len(sentences)) if sentences[i] != START), key=lambda i: (-counts[i], i))
    kept = order[: model.sentences]
    prior, answer = np.full(model.states, NEVER), np.full((model.states, model.sentences), NEVER)
    transition = np.full((model.states, model.states), NEVER)
    emission = np.zeros((tokenizer.size, model.states))
    listed = np.zeros((model.sentences, model.length - 1), np.int32)
    prior[:n] = _log(occupied.sum(axis=0) / occupied.sum())
    transition[:n, :n] = _log(fitted.parameters.transition)
    used = fitted.parameters.emission.T > 0
    emission[:, :n] = np.where(used, _log(fitted.parameters.emission.T), 0.0)
    share = occupied[kept].T
    answer[:n, : len(kept)] = _log(share / np.maximum(occupied.sum(axis=0), 1e-12)[:, None])
    for row, i in enumerate(kept):
        listed[row] = encode_target(tokenizer, "anticipate", sentences[i], model.length)[1:]
    tables = {"prior": prior, "transition": transition, "emission": emission, "answer": answer}
    params = {f"hmm_{name}": table.astype(np.float32) for name, table in tables.items()}
    return {**params, "hmm_sentences": listed}, len(order) - len(kept)


def _log(probability: np.ndarray) -> np.ndarray:
    """Logarithm with `NEVER` for 0."""
    return np.where(probability > 0, np.log(np.where(probability > 0, probability, 1.0)), NEVER)
