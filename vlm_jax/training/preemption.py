"""SIGTERM and Ctrl-C end a run at the next step boundary, saved."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax

EXIT_PREEMPTED = 3


class Preempted(Exception):
    """The run must stop here and now; raised in the middle of a validation."""


class PreemptionWatch:
    """A context that notes SIGTERM and SIGINT; a second SIGINT interrupts at once.

    With several processes SIGTERM stays with JAX, whose preemption service tells all of them of one process's signal
    and chooses a step that none has passed; SIGINT is handed to it as a SIGTERM. Enter it after
    `jax.distributed.initialize`.
    """

    def __init__(self) -> None:
        self._noticed = False
        self._alone = True
        self._polls = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> PreemptionWatch:
        self._alone = jax.process_count() == 1
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT) if self._alone else (signal.SIGINT,):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._noticed and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._noticed = True
        if not self._alone:
            os.kill(os.getpid(), signal.SIGTERM)

    def reached(self, step: int) -> bool:
        """Whether to save and stop now. Several processes all get True at the same call, once.

        Call it once a step, once a batch of a validation and after a save, on all processes in the same order. What is
        agreed upon is the number of the call, since a step may have many; `step` is for those who read a trace.
        """
        del step
        self._polls += 1
        if self._alone:
            return self._noticed
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(self._polls)
