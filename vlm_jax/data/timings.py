"""What the reading threads spend a record's time on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator


class RowTimings:
    """Seconds of all threads in reading from disk, in decoding and in the rest; safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[str, float] = {"rows": 0.0, "read": 0.0, "decode": 0.0, "row": 0.0}

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Adds what happens inside to `read`, `decode` or `row` (a whole record, which counts it)."""
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            with self._lock:
                self._sums[part] += seconds
                self._sums["rows"] += part == "row"

    def take(self) -> dict[str, float]:
        """{rows, read, decode, prepare} since the last call; prepare is what a record takes beside the other two."""
        with self._lock:
            sums, self._sums = self._sums, dict.fromkeys(self._sums, 0.0)
        rest = max(sums["row"] - sums["read"] - sums["decode"], 0.0)
        return {
            "rows": sums["rows"],
            "read": round(sums["read"], 4),
            "decode": round(sums["decode"], 4),
            "prepare": round(rest, 4),
        }
