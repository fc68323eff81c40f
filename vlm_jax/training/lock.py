"""One training at a time in a work directory: two would clear away each other's half-written checkpoints."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import jax
from etils import epath

from vlm_jax.data.files import hold
from vlm_jax.errors import UserError
from vlm_jax.parallel import distributed

PATIENCE = 20.0
"""Seconds that a start waits for the one before: a preempted job is often back before its last save has ended."""


class WorkdirLock:
    """A context that holds the work directory, as process 0 sees it, until it is left or the process ends.

    An advisory lock (`data.files.hold`). Where the disk has none (object stores) it holds nothing and says nothing.
    """

    def __init__(self, workdir: epath.Path, patience: float = PATIENCE):
        self._workdir, self._patience = workdir, patience
        self._file: int | None = None

    def __enter__(self) -> WorkdirLock:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def take(self) -> None:
        """Takes the directory if it exists and is not held yet; all processes call it at the same place.

        Raises:
          UserError: another training holds it; on all processes.
        """
        busy = jax.process_index() == 0 and self._file is None and not self._taken()
        if distributed.union([0] if busy else []):
            raise UserError(
                f"another training is at work in {self._workdir}: wait until it has ended, or use another --workdir"
            )

    def _taken(self) -> bool:
        """False where another process holds it and goes on doing so."""
        end, waiting = time.monotonic() + self._patience, False
        while True:
            try:
                self._file = hold(Path(os.fspath(self._workdir)))
                return True
            except BlockingIOError:
                if time.monotonic() >= end:
                    return False
                if not waiting:
                    line = f"waiting for the training that is at work in {self._workdir} to end"
                    print(line, file=sys.stderr, flush=True)
                waiting = True
                time.sleep(0.2)
            except OSError:  # not there yet, or not on a disk
                return True
