"""Generation within a grammar: which token may follow, as a finite automaton that runs beside the decoder.

The grammar is read off the training descriptions. A description is a first clause and further ones, joined by commas; a
clause is its words with slots where a landmark ({}) or a number (#) stood. Every sequence of known clauses is allowed,
with any landmark and any known number in the slots: a form that training never showed is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.contract import END, START
from vlm_jax.decoding.constraints import NEGATIVE
from vlm_jax.text.tokenizer import Tokenizer

FIRST = "^"
"""What marks the first clause of a description."""
FREE = 0
"""The state in which every token may follow."""


def clauses_of(texts: Iterable[str], names: Sequence[str]) -> tuple[str, ...]:
    """The clauses that these descriptions are made of, sorted, each once; numbers keep a line `#N` of their own.

    Args:
      texts: descriptions.
      names: of the landmarks.
    """
    found: set[str] = set()
    longest = sorted((n.lower() for n in names), key=len, reverse=True)
    slot = re.compile(rf"\b(?:{'|'.join(map(re.escape, longest))})\b") if longest else re.compile(r"(?!)")
    for text in texts:
        if text in (START, END):
            continue
        for place, clause in enumerate(text.lower().split(", ")):
            numbers = re.findall(r"\b\d+\b", clause)
            found |= {f"#{number}" for number in numbers}
            found.add((FIRST if place == 0 else "") + slot.sub("{}", re.sub(r"\b\d+\b", "#", clause)))
    return tuple(sorted(found))


@dataclass(frozen=True)
class Grammar:
    """A deterministic automaton over tokens.

    Attributes:
      table: int32[n_states, V]: the state after a token, -1 where it may not follow. State 0 allows everything.
      start: state before the first token, by task.
    """

    table: np.ndarray
    start: Mapping[str, int]

    def starts(self, tasks: Sequence[str]) -> np.ndarray:
        """int32[R]."""
        return np.array([self.start.get(task, FREE) for task in tasks], np.int32)


def step_states(table: jax.Array, states: jax.Array, tokens: jax.Array, position: jax.Array) -> jax.Array:
    """int32[B, R, W]: states after `tokens`; the task's token, at position 0, changes none."""
    following = jnp.maximum(table[states, jnp.minimum(tokens, table.shape[1] - 1)], FREE)
    return jnp.where(position == 0, states, following)


def mask_logits(logits: jax.Array, table: jax.Array, states: jax.Array) -> jax.Array:
    """f32[B, R, W, V] with what may not follow at NEGATIVE; a padded vocabulary's tail among it, except in state 0."""
    allowed = table[states] >= 0
    padding = logits.shape[-1] - table.shape[1]
    allowed = jnp.pad(allowed, [(0, 0)] * 3 + [(0, padding)]) | (states == FREE)[..., None]
    return jnp.where(allowed, logits, NEGATIVE)


def build_grammar(clauses: Sequence[str], names: Sequence[str], tokenizer: Tokenizer) -> Grammar | None:
    """The automaton of these clauses; None without any."""
    first = [c[1:] for c in clauses if c.startswith(FIRST)]
    if not first:
        return None
    numbers = [c[1:] for c in clauses if re.fullmatch(r"#\d+", c)]
    others = [c for c in clauses if not c.startswith(FIRST) and not re.fullmatch(r"#\d+", c)]
    net = _Net(tokenizer, {"{}": [n.lower() for n in names], "#": numbers})
    begin, comma, more, end = (net.state() for _ in range(4))
    for clause in first:
        net.path(begin, clause, comma)
    for clause in others:
        net.path(more, clause, comma)
    net.edge(comma, tokenizer.encode(",")[0], more)
    net.edge(comma, tokenizer.eos_id, end)
    ahead, close = net.state(), net.state()
    net.silent(ahead, begin)
    net.edge(ahead, tokenizer.id(END), close)
    net.edge(close, tokenizer.eos_id, end)
    starts, edges = _determinise(net, (begin, ahead))
    starts, edges = _minimise(starts, edges)
    table = np.full((len(edges) + 1, tokenizer.size), -1, np.int32)
    table[FREE] = FREE
    for state, outgoing in enumerate(edges, 1):
        for token, target in outgoing.items():
            table[state, token] = target + 1
    return Grammar(table, {"describe": starts[0] + 1, "anticipate": starts[1] + 1})


class _Net:
    """A non-deterministic automaton in the making."""

    def __init__(self, tokenizer: Tokenizer, slots: Mapping[str, Sequence[str]]):
        self.edges: list[list[tuple[int, int]]] = []
        self.jumps: list[list[int]] = []
        self._tokenizer, self._slots = tokenizer, slots

    def state(self) -> int:
        self.edges.append([])
        self.jumps.append([])
        return len(self.edges) - 1

    def edge(self, source: int, token: int, target: int) -> None:
        self.edges[source].append((token, target))

    def silent(self, source: int, target: int) -> None:
        self.jumps[source].append(target)

    def words(self, source: int, text: str, target: int) -> None:
        """A chain of the text's tokens."""
        tokens = self._tokenizer.encode(text)
        for token in tokens[:-1]:
            following = self.state()
            self.edge(source, token, following)
            source = following
        if tokens:
            self.edge(source, tokens[-1], target)
        else:
            self.silent(source, target)

    def path(self, source: int, clause: str, target: int) -> None:
        """A chain of words and slots."""
        pieces = [piece for piece in re.split(r"(\{\}|#)", clause) if piece.strip()]
        for place, piece in enumerate(pieces):
            following = target if place == len(pieces) - 1 else self.state()
            for text in self._slots.get(piece, [piece]):
                self.words(source, text, following)
            source = following


def _closure(net: _Net, states: Iterable[int]) -> frozenset[int]:
    found, todo = set(), list(states)
    while todo:
        state = todo.pop()
        if state not in found:
            found.add(state)
            todo += net.jumps[state]
    return frozenset(found)


def _determinise(net: _Net, starts: Sequence[int]) -> tuple[list[int], list[dict[int, int]]]:
    """Subset construction (Rabin and Scott 1959) from several starts."""
    sets = [_closure(net, [start]) for start in starts]
    number = {some: i for i, some in reversed(list(enumerate(sets)))}
    order, edges = list(sets), []
    place = 0
    while place < len(order):
        outgoing: dict[int, set[int]] = {}
        for state in order[place]:
            for token, target in net.edges[state]:
                outgoing.setdefault(token, set()).add(target)
        row = {}
        for token, targets in outgoing.items():
            reached = _closure(net, targets)
            if reached not in number:
                number[reached] = len(order)
                order.append(reached)
            row[token] = number[reached]
        edges.append(row)
        place += 1
    return [number[some] for some in sets], edges


def _minimise(starts: list[int], edges: list[dict[int, int]]) -> tuple[list[int], list[dict[int, int]]]:
    """Moore's refinement: states with the same future become one. (What ends a text has no way out.)"""
    block = [0] * len(edges)
    while True:
        keys = [(block[i], tuple(sorted((t, block[s]) for t, s in row.items()))) for i, row in enumerate(edges)]
        names = {key: n for n, key in enumerate(dict.fromkeys(keys))}
        refined = [names[key] for key in keys]
        if len(names) == len(set(block)):
            break
        block = refined
    merged: list[dict[int, int]] = [{} for _ in range(max(block) + 1)]
    for i, row in enumerate(edges):
        merged[block[i]] = {token: block[target] for token, target in row.items()}
    return [block[start] for start in starts], merged
