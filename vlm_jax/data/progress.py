"""Progress: a bar on a terminal, one plain line a step elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Counts `unit`s of work in `total` larger steps.

    Args:
      what: what is being done, one or two words.
      total: number of steps.
      unit: what `tick` counts.
      enabled: False says nothing at all.
    """

    def __init__(self, what: str, total: int, unit: str, enabled: bool = True) -> None:
        self._what, self._total, self._unit, self._enabled = what, total, unit, enabled
        self._done, self._ticks, self._start = 0, 0, time.monotonic()
        bar = enabled and sys.stderr.isatty()
        self._bar = tqdm(desc=what, unit=f" {unit}", file=sys.stderr) if bar else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def tick(self, n: int = 1) -> None:
        """`n` more units are done."""
        self._ticks += n
        if self._bar is not None:
            self._bar.update(n)

    def step(self, note: str) -> None:
        """One step is done; `note` says of it what is worth a line."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_description(f"{self._what} {self._done}/{self._total}")
        elif self._enabled:
            seconds = time.monotonic() - self._start
            print(f"{self._what} {self._done}/{self._total}: {note} ({seconds:.1f} s)", file=sys.stderr, flush=True)
