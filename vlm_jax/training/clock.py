"""Where the time between two logged steps went."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class StepClock:
    """Means over the steps since the last lap, evaluation and saving left out.

    Steps are dispatched ahead of the device, so that a single step's wall time says nothing: a lap ends where the
    device was waited for.
    """

    def __init__(self, step: int):
        self._step = step
        self._began = time.perf_counter()
        self._waited = 0.0
        self._wait_began = 0.0

    def waiting(self) -> None:
        """The loop asks for a batch."""
        self._wait_began = time.perf_counter()

    def working(self) -> None:
        """The batch is there."""
        self._waited += time.perf_counter() - self._wait_began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside takes no part."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    def lap(self, step: int) -> dict[str, float]:
        """`seconds_per_step`, and `data_wait` as the share of it spent waiting for a batch; starts the next lap."""
        now = time.perf_counter()
        spent = max(now - self._began, 1e-9)
        out = {"seconds_per_step": spent / max(step - self._step, 1), "data_wait": min(self._waited / spent, 1.0)}
        self._step, self._began, self._waited = step, now, 0.0
        return out
