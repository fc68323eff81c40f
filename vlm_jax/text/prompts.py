"""Prompt and target arrays of fixed length from text segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlm_jax.contract import END, START
from vlm_jax.errors import UserError
from vlm_jax.text.tokenizer import CLS, NULL, SEP, Tokenizer


def _segment_ids(tokenizer: Tokenizer, segment: str | None) -> list[int]:
    if segment is None:
        return [tokenizer.id(NULL)]
    if segment in (START, END):
        return [tokenizer.id(segment)]
    return tokenizer.encode(segment)


def _shorten(parts: list[list[int]], room: int) -> None:
    """Takes tokens from the front of the longest part until all fit: the last words are the most recent ones."""
    while (excess := sum(map(len, parts)) - room) > 0:
        lengths = sorted((len(p) for p in parts), reverse=True)
        longest = max(parts, key=len)
        second = lengths[1] if len(lengths) > 1 else 0
        del longest[: min(excess, max(1, len(longest) - second))]


def encode_prompt(tokenizer: Tokenizer, segments: Sequence[str | None], length: int) -> np.ndarray:
    """int32[S]: `[CLS] segment [SEP] segment [SEP]`, zero-padded to `length`.

    An absent text (None) is [NULL], the start of a procedure (`contract.START`) is [START]: not the same thing. What is
    too long loses its beginning, the longest segment first; the special tokens stay.
    """
    parts = [_segment_ids(tokenizer, s) for s in segments]
    room = length - 1 - len(parts)
    if room < len(parts):
        least = 2 * len(parts) + 1
        raise UserError(f"data.prompt_length={length} is too short for {len(parts)} texts; at least {least}")
    _shorten(parts, room)
    ids = [tokenizer.id(CLS)]
    for part in parts:
        ids += [*part, tokenizer.id(SEP)]
    return _padded(ids, length)


def is_cut(tokenizer: Tokenizer, segments: Sequence[str | None], length: int) -> bool:
    """Whether `encode_prompt` would take words from their beginning."""
    return sum(len(_segment_ids(tokenizer, s)) for s in segments) > length - 1 - len(segments)


def encode_target(tokenizer: Tokenizer, task: str, text: str | None, length: int) -> np.ndarray:
    """int32[T]: the task's token, the text, [EOS], zero-padded; all zeros where there is no text to learn.

    `contract.END` is the single token [END]. A text that is too long loses its end; [EOS] stays.
    """
    if text is None:
        return np.zeros(length, np.int32)
    if length < 3:
        raise UserError(f"data.target_length={length} is too short: a target needs at least 3 tokens")
    ids = [tokenizer.id(END)] if text == END else tokenizer.encode(text)
    return _padded([tokenizer.task_id(task), *ids[: length - 2], tokenizer.eos_id], length)


def _padded(ids: list[int], length: int) -> np.ndarray:
    out = np.zeros(length, np.int32)
    out[: len(ids)] = ids
    return out
