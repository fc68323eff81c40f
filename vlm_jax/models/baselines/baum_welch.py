"""Hidden Markov models over observed sentences, fitted by Baum-Welch (Baum et al. 1970; Rabiner 1989), in numpy.

A state says which sentence comes and which state follows. It emits a sentence as a bag of words, so that a sentence
never seen before still has a likelihood under every state. All sums are float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Observed:
    """Sequences of sentences, each sentence stored once.

    Attributes:
      words: float64[D, V], how often each word occurs in each distinct sentence; 0 for words that say nothing.
      sequences: each int64[L], rows of `words`.
    """

    words: np.ndarray
    sequences: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Parameters:
    """Probabilities. N states, V words.

    Attributes:
      start: [N], of a sequence's first state.
      transition: [N, N], from row to column.
      emission: [N, V], of a word; its rows add up to 1 over the words that occur.
    """

    start: np.ndarray
    transition: np.ndarray
    emission: np.ndarray


@dataclass(frozen=True)
class Expected:
    """What the E-step counts.

    Attributes:
      start: [N], first states.
      transition: [N, N], steps from one state to another.
      occupied: [D, N], how often a sentence stood in a state.
      log_likelihood: of all sequences.
    """

    start: np.ndarray
    transition: np.ndarray
    occupied: np.ndarray
    log_likelihood: float


@dataclass(frozen=True)
class Fitted:
    """The result: parameters, the counts under them, and the objective after every iteration (it never falls)."""

    parameters: Parameters
    expected: Expected
    objective: tuple[float, ...]


def log_emissions(words: np.ndarray, emission: np.ndarray) -> np.ndarray:
    """float64[D, N]: log-probability of each sentence's words in each state."""
    used = emission > 0
    return words @ np.where(used, np.log(np.where(used, emission, 1.0)), 0.0).T


def forward_backward(log_emission: np.ndarray, p: Parameters) -> tuple[np.ndarray, np.ndarray, float]:
    """One sequence, with a scale a step (Rabiner 1989, section V.A).

    Args:
      log_emission: [L, N].

    Returns:
      states [L, N], the posterior of each place; steps [N, N], the expected steps; the log-likelihood.
    """
    highest = log_emission.max(axis=1)
    likelihood = np.exp(log_emission - highest[:, None])
    n = len(likelihood)
    forward, scale = np.empty_like(likelihood), np.empty(n)
    ahead = p.start
    for t in range(n):
        joint = ahead * likelihood[t]
        scale[t] = joint.sum()
        forward[t] = joint / scale[t]
        ahead = forward[t] @ p.transition
    backward = np.ones_like(likelihood)
    steps = np.zeros_like(p.transition)
    for t in range(n - 2, -1, -1):
        weighed = likelihood[t + 1] * backward[t + 1] / scale[t + 1]
        steps += forward[t][:, None] * p.transition * weighed[None]
        backward[t] = p.transition @ weighed
    return forward * backward, steps, float(np.log(scale).sum() + highest.sum())


def expect(observed: Observed, p: Parameters) -> Expected:
    """The E-step over all sequences."""
    table = log_emissions(observed.words, p.emission)
    n = len(p.start)
    start, transition, occupied = np.zeros(n), np.zeros((n, n)), np.zeros((len(observed.words), n))
    total = 0.0
    for sequence in observed.sequences:
        states, steps, log_likelihood = forward_backward(table[sequence], p)
        start += states[0]
        transition += steps
        np.add.at(occupied, sequence, states)
        total += log_likelihood
    return Expected(start, transition, occupied, total)


def maximise(observed: Observed, expected: Expected, smoothing: float) -> Parameters:
    """The M-step with a pseudo-count: the maximum under a Dirichlet prior of 1 + smoothing (Rabiner 1989, eq. 40)."""
    said = (observed.words.sum(axis=0) > 0).astype(np.float64)

    def normalised(counts: np.ndarray) -> np.ndarray:
        return counts / counts.sum(axis=-1, keepdims=True)

    return Parameters(
        start=normalised(expected.start + smoothing),
        transition=normalised(expected.transition + smoothing),
        emission=normalised(expected.occupied.T @ observed.words + smoothing * said),
    )


def log_prior(p: Parameters, smoothing: float) -> float:
    """Log-density of the Dirichlet prior, up to a constant: with it the objective of `fit` never falls."""
    return float(sum(smoothing * np.log(part[part > 0]).sum() for part in (p.start, p.transition, p.emission)))


def fit(
    observed: Observed,
    assigned: np.ndarray,
    n_states: int,
    *,
    smoothing: float,
    iterations: int,
    tolerance: float = 1e-6,
) -> Fitted:
    """Baum-Welch from a first guess of each sentence's state.

    Args:
      observed: the sequences.
      assigned: int64[D], the state that each sentence is put into at first.
      n_states: N.
      smoothing: pseudo-count, above 0.
      iterations: at most; 0 keeps the guess, which are supervised counts.
      tolerance: relative gain of the objective below which it stops.
    """
    parameters = maximise(observed, _counted(observed, assigned, n_states), smoothing)
    expected = expect(observed, parameters)
    objective = [expected.log_likelihood + log_prior(parameters, smoothing)]
    for _ in range(iterations):
        parameters = maximise(observed, expected, smoothing)
        expected = expect(observed, parameters)
        objective.append(expected.log_likelihood + log_prior(parameters, smoothing))
        if objective[-1] - objective[-2] < tolerance * abs(objective[-2]):
            break
    return Fitted(parameters, expected, tuple(objective))


def _counted(observed: Observed, assigned: np.ndarray, n_states: int) -> Expected:
    """Counts as if the states were seen."""
    start, transition = np.zeros(n_states), np.zeros((n_states, n_states))
    occupied = np.zeros((len(observed.words), n_states))
    for sequence in observed.sequences:
        states = assigned[sequence]
        start[states[0]] += 1
        np.add.at(transition, (states[:-1], states[1:]), 1)
        np.add.at(occupied, (sequence, states), 1)
    return Expected(start, transition, occupied, 0.0)


def assign(words: np.ndarray, weights: Sequence[float] | np.ndarray, n_states: int) -> np.ndarray:
    """int64[D]: a state for each sentence, its own where there are enough.

    Otherwise the states' centres are found farthest first (Gonzalez 1985), beginning with the most frequent sentence,
    by Jaccard distance between the sets of words; a sentence joins the nearest centre, the first of equals.
    """
    d = len(words)
    if d <= n_states:
        return np.arange(d)
    has = (words > 0).astype(np.float64)
    size = has.sum(axis=1)

    def distance(i: int) -> np.ndarray:
        shared = has @ has[i]
        return 1.0 - shared / np.maximum(size + size[i] - shared, 1.0)

    centres = [int(np.argmax(weights))]
    distances = [distance(centres[0])]
    while len(centres) < n_states:
        centres.append(int(np.argmax(np.min(distances, axis=0))))
        distances.append(distance(centres[-1]))
    return np.argmin(distances, axis=0)
