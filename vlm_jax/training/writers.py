"""metrics.jsonl and TensorBoard: one row a step, in full precision, consistent across resumes."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import jax
from etils import epath

NAME = "metrics.jsonl"


def rewind(path: epath.Path, step: int) -> None:
    """Drops rows past the restored step and a torn last line: the steps after it will be done again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # torn by a kill in mid-write
        if row.get("step", 0) <= step:
            kept.append(line + "\n")
    partial = path.parent / (path.name + ".part")
    partial.write_text("".join(kept))
    partial.replace(path)


class MetricWriter:
    """Writes on process 0 only; elsewhere every call does nothing."""

    def __init__(self, workdir: epath.Path, *, step: int, tensorboard: bool):
        self._file: Any = None
        self._board: Any = None
        if jax.process_index() != 0:
            return
        path = workdir / NAME
        rewind(path, step)
        self._file = path.open("a")
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(os.fspath(workdir / "tb"), purge_step=step + 1, flush_secs=30)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Appends one row; a value that is not finite is written as null, since JSON has no word for it."""
        if self._file is None:
            return
        row = {"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes both."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()
