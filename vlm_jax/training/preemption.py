"""SIGTERM and Ctrl-C end a run at the next step boundary, saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import jax

EXIT_PREEMPTED = 3


class PreemptionWatch:
    """A context that notes SIGTERM and SIGINT; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self._noticed = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> PreemptionWatch:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._noticed and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._noticed = True

    def reached(self, step: int) -> bool:
        """Whether to save and stop now. With several processes all of them agree on the step."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            # jax.distributed's notifier swallows SIGTERM; its sync point is how one process's signal reaches all.
            return self._noticed or multihost_utils.reached_preemption_sync_point(step)
        return self._noticed
