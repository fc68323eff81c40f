"""Seconds of calls, taken in turn, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

Call = Callable[[], Any]
"""Does the work once and returns when it is done (a device's result is waited for)."""


@dataclass(frozen=True)
class Seconds:
    """Of one case, f64[rounds] each: on the clock, and of all cores together, which other work changes less."""

    wall: np.ndarray
    cpu: np.ndarray


def interleave(calls: Mapping[str, Call], *, rounds: int, warmup: int, repeat: int = 1) -> dict[str, Seconds]:
    """Seconds of each call; in every round each has its turn, and each begins equally often.

    Args:
      calls: name -> what is timed.
      rounds: timings of each.
      warmup: calls of each before the first timing, compilation among them.
      repeat: calls a timing, which is their mean: for calls that only start work on a device, of which the last waits.
    """
    names = list(calls)
    for name in names:
        for _ in range(warmup):
            calls[name]()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for i in tqdm(range(rounds), desc="timing", file=sys.stderr, disable=None):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            began, began_cpu = time.perf_counter(), time.process_time()
            for _ in range(repeat):
                calls[name]()
            spent = time.perf_counter() - began, time.process_time() - began_cpu
            seconds[name].append(spent)
    arrays = {name: np.array(values) / repeat for name, values in seconds.items()}
    return {name: Seconds(wall=array[:, 0], cpu=array[:, 1]) for name, array in arrays.items()}


def summary(seconds: np.ndarray) -> dict[str, float]:
    """Median, spread (the quartiles) and tail of timings, in seconds, and how many there are."""
    low, median, high, tail = np.percentile(seconds, [25, 50, 75, 99])
    return {"median": median, "low": low, "high": high, "p99": tail, "fastest": seconds.min(), "n": len(seconds)}


def ratio(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Ours over theirs: the ratio of medians, and the quartiles of the ratios round by round, as far as both go."""
    n = min(len(ours), len(theirs))
    low, high = np.percentile(ours[:n] / theirs[:n], [25, 75])
    return {"median": float(np.median(ours) / np.median(theirs)), "low": float(low), "high": float(high)}
