"""A file that lines are added to, on a disk and on object storage, where nothing can be added to a file."""

from __future__ import annotations

import os
import time
from typing import Any

from etils import epath

REWRITE_EVERY = 30.0
"""Seconds between two uploads of a file on object storage: what a killed process may lose of it."""


class LineFile:
    """Adds lines to a file, which need not exist.

    On a disk each line is there when `write` returns. gs:// has no appending (gcsfs would replace the file): there the
    lines are kept, and all of the file is written anew at `sync`, `close`, and every `REWRITE_EVERY` seconds.
    """

    def __init__(self, path: epath.Path):
        self._path = path
        self._file: Any = None
        self._kept: list[str] = []
        self._stored = time.monotonic()
        self._dirty = False
        if "://" in os.fspath(path):
            self._kept = path.read_text().splitlines(keepends=True) if path.exists() else []
            torn = bool(self._kept) and not self._kept[-1].endswith("\n")
        else:
            torn = path.exists() and path.stat().length > 0 and not path.read_text().endswith("\n")
            self._file = path.open("a")
        if torn:  # a kill in the middle of a line: the readers drop what is no JSON
            self.write("")

    def write(self, line: str) -> None:
        """Adds a line, given without its end."""
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()
            return
        self._kept.append(line + "\n")
        self._dirty = True
        if time.monotonic() - self._stored >= REWRITE_EVERY:
            self.sync()

    def sync(self) -> None:
        """All lines are where a reader finds them."""
        if self._dirty:
            self._path.write_text("".join(self._kept))
            self._dirty, self._stored = False, time.monotonic()

    def close(self) -> None:
        """Syncs; nothing may be written afterwards."""
        self.sync()
        if self._file is not None:
            self._file.close()
