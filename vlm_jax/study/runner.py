"""Works off the jobs of a study: by one process, or by several that share the work directory.

Each process takes a job by locking a file in its folder; the lock is the operating system's, so that it is gone when
the process is, however it ends. A job that was cut off is taken up where its checkpoints and results are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from vlm_jax.errors import EnvironmentFault, UserError, is_out_of_memory
from vlm_jax.study.jobs import LOG, run_job
from vlm_jax.study.plan import Job, Plan
from vlm_jax.study.systems import StudySystem
from vlm_jax.study.variants import Variant
from vlm_jax.training.preemption import EXIT_PREEMPTED

LOCK = "lock"
POLL_SECONDS = 2.0
OUT_OF_MEMORY = "out of memory: fewer --processes, or another --workdir with a smaller train.batch_size in `settings`"


def say(text: str) -> None:
    """To the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this process got the folder's lock; it is held until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)


class Runner:
    """One process's share of the work."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.jobs = plan, plan.jobs()
        self.failed: dict[Path, str] = {}
        self._began, self._spent, self._ended = time.monotonic(), 0.0, 0
        self._waiting_said = False

    def run(self) -> int:
        """Until every job is done, by this process or another; the exit code: 0, 1 after failures, 3 preempted."""
        say(progress_table(self.plan))
        while left := [job for job in self.jobs if not job.done and job.folder not in self.failed]:
            code = self._one_of(left)
            if code == EXIT_PREEMPTED:
                say("preempted: run the same command to go on")
                return code
        for folder, line in self.failed.items():
            say(f"failed: {folder}: {line} (see {LOG} there)")
        return 1 if self.failed else 0

    def _one_of(self, left: Sequence[Job]) -> int:
        """Does the first job that nobody else is at; waits a moment where there is none."""
        for job in left:
            if job.system.parent and self.plan.parent(job).folder in self.failed:
                self.failed[job.folder] = f"needs {job.system.parent}, which failed"
                return 0
            if not self.plan.ready(job):
                continue
            with claimed(job.folder) as mine:
                if mine and not job.done:
                    return self._do(job)
        if not self._waiting_said:
            self._waiting_said = True
            say(f"{len(left)} runs are with other processes; waiting for them")
        time.sleep(POLL_SECONDS)
        return 0

    def _do(self, job: Job) -> int:
        start = time.monotonic()
        self._waiting_said = False
        say(f"{self._place()} {job.title} ...")
        code = 1
        try:
            code = run_job(self.plan, job)
        except EnvironmentFault:
            raise
        except UserError as error:
            self._fail(job, str(error))
        except Exception as error:  # one broken system must not cost a day of the others
            with open(job.folder / LOG, "a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
            if isinstance(error, OSError):
                raise
            self._fail(job, OUT_OF_MEMORY if is_out_of_memory(error) else f"{type(error).__name__}: {error}")
        self._spent, self._ended = self._spent + time.monotonic() - start, self._ended + 1
        if not code:
            say(f"{self._place()} {job.title} done in {time.monotonic() - start:.0f} s{self._left()}")
        return code

    def _fail(self, job: Job, line: str) -> None:
        self.failed[job.folder] = " ".join(line.split())
        say(f"{self._place()} {job.title} FAILED: {self.failed[job.folder]}")

    def _place(self) -> str:
        done = sum(job.done for job in self.jobs)
        return f"[{done}/{len(self.jobs)}, {(time.monotonic() - self._began) / 60:.1f} min]"

    def _left(self) -> str:
        left = sum(not job.done for job in self.jobs)
        return f"; about {left * self._spent / self._ended / 60:.0f} min to go" if left else ""


def progress_table(plan: Plan) -> str:
    """A line a system, a column a fold: done, at work or not begun, over the seeds."""
    lines = []
    for variant in plan.variants:
        width = max(len(s.shown) for s in plan.systems)
        head = "".join(f" fold {i}" for i in range(len(variant.folds)))
        lines.append(f"{variant.name:<{width}}{head}")
        for system in plan.systems:
            cells = "".join(f" {_state(plan, variant, system, i):>6}" for i in range(len(variant.folds)))
            lines.append(f"{system.shown:<{width}}{cells}")
    return "\n".join(lines)


def _state(plan: Plan, variant: Variant, system: StudySystem, fold: int) -> str:
    seeds = plan.study.seeds if system.trained or system.parent else plan.study.seeds[:1]
    jobs = [plan.job(variant, system, fold, seed) for seed in seeds]
    done = sum(job.done for job in jobs)
    if done == len(jobs):
        return "done"
    begun = any(job.folder.is_dir() for job in jobs)
    return f"{done}/{len(jobs)}" if done else "begun" if begun else "-"
