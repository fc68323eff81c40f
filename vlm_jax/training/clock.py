"""Where the time between two logged steps went."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from vlm_jax.data.timings import RowTimings
from vlm_jax.training.goodput import Ledger


class StepClock:
    """Means over the steps since the last lap, all other phases left out; every lap is a row of the ledger.

    Steps are dispatched ahead of the device, so that a single step's wall time says nothing: a lap ends where the
    device was waited for.
    """

    def __init__(self, step: int, ledger: Ledger | None = None, rows: RowTimings | None = None):
        self._step = step
        self._ledger = ledger or Ledger()
        self._rows = rows or RowTimings()
        self._began = time.perf_counter()
        self._first = True
        self._parts: dict[str, float] = dict.fromkeys(("data_wait", "dispatch", "await"), 0.0)
        self._awaited = self._dispatched = 0
        self._mark = self._began

    def waiting(self) -> None:
        """The loop asks for a batch."""
        self._mark = time.perf_counter()

    def working(self) -> None:
        """The batch is there. The first one waited for the readers to start, and is no part of a lap."""
        if self._first:
            self._first = False
            now = time.perf_counter()
            self._ledger.write("phase", self._step, phase="init", seconds=round(now - self._mark, 4))
            self._began, self._mark = now, now
            self._rows.take()
        else:
            self._count("data_wait")

    def dispatched(self) -> None:
        """The call of the step has returned."""
        self._count("dispatch")
        self._dispatched += 1

    def awaited(self) -> None:
        """The device has been waited for."""
        self._count("await")
        self._awaited += 1

    def _count(self, part: str) -> None:
        now = time.perf_counter()
        self._parts[part] += now - self._mark
        self._mark = now

    @contextlib.contextmanager
    def paused(self, phase: str) -> Iterator[dict[str, Any]]:
        """What happens inside is another phase (goodput.PHASES), with the facts that are put into the dict."""
        began = time.perf_counter()
        try:
            with self._ledger.phase(phase, self._step) as facts:
                yield facts
        finally:
            now = time.perf_counter()
            self._began += now - began
            self._mark = now

    def lap(self, step: int) -> dict[str, float]:
        """`seconds_per_step`, and `data_wait` as the share of it spent waiting for a batch; starts the next lap."""
        now = time.perf_counter()
        spent, steps = max(now - self._began, 1e-9), step - self._step
        parts = {name: round(value, 4) for name, value in self._parts.items()}
        parts["host"] = round(max(spent - sum(self._parts.values()), 0.0), 4)
        if steps > 0:
            self._ledger.write(
                "lap", step, steps=steps, seconds=round(spent, 4), **parts, awaited=self._awaited, **self._rows.take()
            )
        out = {"seconds_per_step": spent / max(steps, 1), "data_wait": min(self._parts["data_wait"] / spent, 1.0)}
        self._step, self._began, self._awaited, self._dispatched = step, now, 0, 0
        self._parts = dict.fromkeys(self._parts, 0.0)
        return out

    def close(self) -> None:
        """The steps since the last lap, of a run that ends between two."""
        if self._dispatched:
            self.lap(self._step + self._dispatched)
