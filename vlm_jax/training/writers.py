"""metrics.jsonl and TensorBoard: one row a step, in full precision, consistent across resumes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from typing import Any

import jax
from etils import epath

from vlm_jax.checkpoint.faults import disk_errors
from vlm_jax.training.lines import LineFile

NAME = "metrics.jsonl"
VALIDATION = "validation/"
_BOARD_QUEUE = 100
"""Rows that wait for TensorBoard's thread: more than a step has, and less than a pipe holds when nobody reads it."""


def rewind(path: epath.Path, step: int, *, validation: bool = True) -> None:
    """Drops rows past the restored step and a torn last line: the steps after it will be done again.

    Without `validation` that of the step itself, which is to be made again, goes, too.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # torn by a kill in mid-write
        again = row.get("step") == step and not validation and any(key.startswith(VALIDATION) for key in row)
        if row.get("step", 0) <= step and not again:
            kept.append(line + "\n")
    partial = path.parent / (path.name + ".part")
    partial.write_text("".join(kept))
    partial.replace(path)


class MetricWriter:
    """Writes on process 0 only; elsewhere every call does nothing."""

    def __init__(self, workdir: epath.Path, *, step: int, tensorboard: bool):
        self._file: LineFile | None = None
        self._board: Any = None
        if jax.process_index() != 0:
            return
        self._path = workdir / NAME
        rewind(self._path, step)
        self._file = LineFile(self._path)
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(
                os.fspath(workdir / "tb"), purge_step=step + 1, flush_secs=30, max_queue=_BOARD_QUEUE
            )

    def write(self, step: int, values: dict[str, float]) -> None:
        """Appends one row; a value that is not finite is written as null, since JSON has no word for it."""
        if self._file is None:
            return
        row = {"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()}
        with disk_errors(f"writing {NAME}", self._path.parent):
            self._file.write(json.dumps(row))
        for name, value in values.items():
            if self._board_works():
                self._board.add_scalar(name, value, step)

    def _board_works(self) -> bool:
        """Whether TensorBoard's thread still empties its queue: it ends at the first error of the disk, and who puts
        more into the queue than it holds then waits for ever."""
        if self._board is None:
            return False
        if self._board.file_writer.event_writer._worker.is_alive():
            return True
        self._board = None
        print(f"WARNING: TensorBoard's file could not be written: {NAME} goes on alone", file=sys.stderr, flush=True)
        return False

    def rewind(self, step: int, *, validation: bool = True) -> None:
        """Drops the rows past `step`, when training goes back to it; see `rewind`."""
        if self._file is None:
            return
        self._file.close()
        rewind(self._path, step, validation=validation)
        self._file = LineFile(self._path)

    def sync(self) -> None:
        """Stores what was written, before a checkpoint that a later run goes on from."""
        if self._file is not None:
            with disk_errors(f"writing {NAME}", self._path.parent):
                self._file.sync()

    def close(self) -> None:
        """Flushes and closes both."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what a full disk refused is tried again here, and was said
                self._file.close()
        if self._board_works():
            with contextlib.suppress(OSError):
                self._board.close()
