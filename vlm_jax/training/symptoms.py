"""What can hold a run up, one rule each: from the times of its processes to a finding, or None.

Shares are of the time that the run took without its start (init, restore, compile), or of the laps. The limits are
OURS: what costs a tenth of the time is worth a person's, and a healthy run stays below (tests/training/test_doctor.py).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LIMIT = 0.10
"""Share of the time from which saving or a slow process is named."""
DATA_LIMIT = 0.15
"""Share of the laps from which waiting for data is named: where CPUs train, they also read."""
HOST_LIMIT = 0.15
"""Share of the laps that the host spends between steps while no batch is missing."""
FIXED_LIMIT = 2 * LIMIT
"""Share of a step's memory traffic that is the same for every batch size: twice the batch then saves a tenth."""
WASTED_LIMIT = 0.05
START_LIMIT = 0.30
SHORT_RUN = 600.0
"""Seconds below which the start of a run is no news."""
FEWEST_SAVES = 2
"""One save says nothing of how often: with it validation is compiled, and the last step is always saved."""


@dataclass(frozen=True)
class Finding:
    """One thing that holds the run up.

    Attributes:
      name: slow disk, slow decode, slow preparation, small batch, host sync, frequent saves, frequent evaluation, slow
        process, lost work or slow start.
      share: of the time, what it costs.
      evidence: the figures.
      change: what to do.
    """

    name: str
    share: float
    evidence: str
    change: str


def data(processes: list[Any]) -> Finding | None:
    """Steps wait for batches, on most processes; the readers' own times say whether for the disk or the decoder."""
    shares = [_of_laps(p, "data_wait") for p in processes]
    share = statistics.median_low(shares)
    if share <= DATA_LIMIT:
        return None
    times = processes[shares.index(share)]
    parts = {part: times.laps[part] for part in ("read", "decode", "prepare")}
    rows = max(times.laps["rows"], 1)
    slowest = max(parts, key=lambda part: parts[part])
    each = ", ".join(f"{1000 * seconds / rows:.2f} ms {part}" for part, seconds in parts.items())
    evidence = f"{share:.0%} of the step time waits for batches; a record takes a reading thread {each}"
    threads = times.facts.get("threads", 2)
    more = f"--config.data.threads={2 * threads} (now {threads})"
    name, change = {
        "read": ("slow disk", f"copy the data set to a local disk, or hide the latency with {more}"),
        "decode": (
            "slow decode",
            f"build the data set anew at the size that is trained on (--image_size {times.facts.get('image_size')}), "
            f"or {more} where cores are idle",
        ),
        "prepare": ("slow preparation", f"{more} where cores are idle; a larger machine otherwise"),
    }[slowest]
    return Finding(name, share, evidence, change)


def small_batch(processes: list[Any]) -> Finding | None:
    """Most of a step's memory traffic is parameters and optimiser, which a larger batch would share out."""
    compiled, facts = processes[0].compiled, processes[0].facts
    moved = compiled.get("bytes", 0.0)
    share = min(compiled.get("fixed_bytes", 0.0) / moved, 1.0) if moved else 0.0
    looped = facts.get("accumulate", 1) > 1 or facts.get("scan_layers", False)  # XLA counts a loop's body once
    if share <= FIXED_LIMIT or looped:
        return None
    size = facts.get("batch_size", 1)
    devices = facts.get("devices", 1)
    return Finding(
        "small batch",
        share,
        f"{share:.0%} of the bytes that a step moves are parameters, gradients and optimiser, the same for every batch "
        f"size; the batch is {size} on {devices} device{'s' if devices > 1 else ''}",
        f"--config.train.batch_size={4 * size} or more, as memory allows (and scale optim.lr), or fewer devices",
    )


def host_sync(processes: list[Any]) -> Finding | None:
    """The device waits for the host in every step: callbacks in the program, or work between steps.

    Between steps the threads of a save that is written in the background take the host's time, too: where saves are
    frequent, that is what is named.
    """
    callbacks = processes[0].compiled.get("callbacks", 0)
    host = statistics.median_low([_of_laps(p, "host") for p in processes])
    times = processes[0]
    every = times.laps["steps"] / max(times.laps["awaited"], 1)
    if not callbacks and (host <= HOST_LIMIT or frequent_saves(processes)):
        return None
    if callbacks:
        evidence = f"the compiled step calls back to the host in {callbacks} place{'s' if callbacks > 1 else ''}"
        change = "take jax.debug.print, jax.debug.callback, io_callback and pure_callback out of the step"
    else:
        evidence = (
            f"{host:.0%} of the step time is host work between steps (neither data nor device); the loop waits for "
            f"the device every {every:.0f} step{'s' if every >= 1.5 else ''}"
        )
        change = (
            f"--config.train.log_every={max(10 * times.facts.get('log_every', 1), 50)} (now "
            f"{times.facts.get('log_every')}), and nothing in the loop that reads a device value in every step"
        )
    return Finding("host sync", max(host, 0.0), evidence, change)


def frequent_saves(processes: list[Any]) -> Finding | None:
    """Saving, with the validation that every save brings, takes too large a part."""
    times = processes[0]
    every, eval_every = times.facts.get("checkpoint_every", 0), times.facts.get("eval_every", 0)
    comes_with_saves = not eval_every or eval_every % max(every, 1) == 0
    # By the middle of its rows: the first evaluation also compiles.
    spent = times.typical("save") + (times.typical("evaluation") if comes_with_saves else 0.0)
    share = spent / max(times.laps["seconds"] + spent, 1e-9)
    n = times.laps["steps"] / max(every, 1)
    if share <= LIMIT or n < FEWEST_SAVES:
        return None
    per_step = times.laps["seconds"] / max(times.laps["steps"], 1)
    better = math.ceil(spent / n / (LIMIT / 2) / max(per_step, 1e-9))
    return Finding(
        "frequent saves",
        share,
        f"{share:.0%} of the time after the start: {spent / n:.2f} s a save (validation included) every {every} steps "
        f"of {per_step:.2f} s",
        f"--config.checkpoint.every={max(better, every + 1)} would cost {LIMIT / 2:.0%}",
    )


def frequent_evaluation(processes: list[Any]) -> Finding | None:
    """Validation between saves takes too large a part."""
    times = processes[0]
    every = times.facts.get("eval_every", 0)
    if not every or every % max(times.facts.get("checkpoint_every", 1), 1) == 0:
        return None
    spent = times.typical("evaluation")
    share = spent / max(times.laps["seconds"] + spent, 1e-9)
    if share <= 2 * LIMIT or times.laps["steps"] / every < FEWEST_SAVES:
        return None
    return Finding(
        "frequent evaluation",
        share,
        f"{share:.0%} of the time after the start is validation, every {every} steps",
        f"--config.eval.every={math.ceil(every * share / LIMIT)}, or a smaller --config.eval.max_units",
    )


def slow_process(processes: list[Any]) -> Finding | None:
    """One process keeps the others waiting: it waits for data or works on the host longer than they do."""
    if len(processes) < 2:
        return None
    own = [(p.laps["data_wait"] + p.laps["host"]) / max(p.laps["seconds"], 1e-9) for p in processes]
    slowest = max(range(len(own)), key=lambda i: own[i])
    others = statistics.median(own[:slowest] + own[slowest + 1 :])
    share = own[slowest] - others
    if share <= LIMIT:
        return None
    laps = processes[slowest].laps
    part = "waiting for data" if laps["data_wait"] > laps["host"] else "in host work between steps"
    return Finding(
        "slow process",
        share,
        f"process {slowest} spends {own[slowest]:.0%} of the step time {part}, the others {others:.0%}; every step "
        "waits for it",
        f"look at the host of process {slowest}: its disk, its load, its network; or take it out and start again",
    )


def lost_work(processes: list[Any]) -> Finding | None:
    """Steps were done again after a kill, a preemption or a rollback."""
    times = processes[0]
    share = times.seconds["wasted"] / max(times.total, 1e-9)
    if share <= WASTED_LIMIT:
        return None
    return Finding(
        "lost work",
        share,
        f"{times.seconds['wasted']:.0f} s of steps were done again after {times.starts} starts",
        f"save more often: --config.checkpoint.every={max(times.facts.get('checkpoint_every', 2) // 2, 1)}; send "
        "SIGTERM and wait before killing",
    )


def slow_start(processes: list[Any]) -> Finding | None:
    """Starting and compiling take a large part of a run that is long enough for that to matter."""
    times = processes[0]
    start = times.seconds["init"] + times.seconds["restore"] + times.seconds["compile"]
    share = start / max(times.total, 1e-9)
    if share <= START_LIMIT or times.total < SHORT_RUN:
        return None
    return Finding(
        "slow start",
        share,
        f"{start:.0f} s in {times.starts} start{'s' if times.starts > 1 else ''}, {times.seconds['compile']:.0f} s of "
        "them compiling",
        "set JAX_COMPILATION_CACHE_DIR to a directory that outlives the run, and start less often"
        if times.seconds["compile"] > start / 2
        else "start less often; reading data and checkpoints from a nearer disk shortens a start",
    )


def _of_laps(times: Any, part: str) -> float:
    return times.laps[part] / max(times.laps["seconds"], 1e-9)


RULES: tuple[Callable[[list[Any]], Finding | None], ...] = (
    data,
    small_batch,
    host_sync,
    frequent_saves,
    frequent_evaluation,
    slow_process,
    lost_work,
    slow_start,
)
