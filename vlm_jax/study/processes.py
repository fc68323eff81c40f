"""`study --processes N`: the same command again, on its share of the machine's cores."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from vlm_jax.errors import UserError
from vlm_jax.parallel.runtime import core_numbers

LOG = "process-{}.log"
GRACE_SECONDS = 60.0


@contextlib.contextmanager
def companions(words: Sequence[str], workdir: Path, processes: int) -> Iterator[None]:
    """N - 1 further processes of `vlm-jax WORDS` beside this one, each and this on cores of its own.

    They write to process-1.log, ... in the work directory. When the block ends, however it ends, those that still run
    are asked to stop; what they were at is saved, as on preemption.

    Raises:
      UserError: fewer than one process, or more than there are cores.
    """
    cores = core_numbers()
    if processes < 1 or processes > len(cores):
        raise UserError(f"--processes is {processes}; this machine's cores allow 1 to {len(cores)}: give one of these")
    if processes == 1:
        yield
        return
    shares = [cores[i::processes] for i in range(processes)]
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for i, share in enumerate(shares[1:], 1):
            stack.enter_context(_companion(words, workdir / LOG.format(i), share))
        stack.enter_context(_on(shares[0]))
        yield


@contextlib.contextmanager
def _companion(words: Sequence[str], log: Path, share: list[int]) -> Iterator[None]:
    """One process, asked to stop when the block ends, and stopped where it does not."""
    with open(log, "a", encoding="utf-8") as file, _on(share):
        command = [sys.executable, "-m", "vlm_jax", *words]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield
    finally:
        if process.poll():
            print(f"a process beside this one ended with code {process.returncode}: see {log}", file=sys.stderr)
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _on(share: list[int]) -> Iterator[None]:
    """This process, and those that it starts, on these cores; XLA takes as many threads when it is first used."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, share)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
