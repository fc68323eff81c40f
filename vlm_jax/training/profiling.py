"""A JAX profiler trace of a few steps, on demand."""

from __future__ import annotations

import os

import jax
from etils import epath

_WARM_UP = 10


class Profiler:
    """Traces `n_steps` steps after the tenth of this run into WORKDIR/profile; 0 = never."""

    def __init__(self, workdir: epath.Path, start: int, n_steps: int):
        self._directory = os.fspath(workdir / "profile")
        self._first = start + _WARM_UP + 1
        self._last = self._first + n_steps
        self._running = False

    def before(self, step: int) -> None:
        """Call before each step."""
        if step == self._first and self._last > self._first and not self._running:
            jax.profiler.start_trace(self._directory)
            self._running = True
        elif step == self._last:
            self.stop()

    def stop(self) -> None:
        """Ends the trace, if one runs."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
