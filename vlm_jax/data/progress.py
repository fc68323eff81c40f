"""Progress: a bar on a terminal, plain lines elsewhere (few of them, however many the steps); always on stderr."""

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
        self._done, self._start = 0, time.monotonic()
        self._said = self._start
        bar = enabled and sys.stderr.isatty()
        self._bar = tqdm(desc=what, unit=f" {unit}", file=sys.stderr) if bar else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def tick(self, n: int = 1) -> None:
        """`n` more units are done."""
        if self._bar is not None:
            self._bar.update(n)

    def step(self, note: str) -> None:
        """One step is done; `note` says of it what is worth a line."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_description(f"{self._what} {self._done}/{self._total}")
        elif self._enabled and self._worth_a_line():
            self._said = time.monotonic()
            seconds = self._said - self._start
            print(f"{self._what} {self._done}/{self._total}: {note} ({seconds:.1f} s)", file=sys.stderr, flush=True)

    def _worth_a_line(self) -> bool:
        """The last step, any of a few steps, and else one line in five seconds."""
        few = self._total <= 10
        return few or self._done == self._total or time.monotonic() - self._said > 5
