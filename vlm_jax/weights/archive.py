"""Zip archives of unknown origin: nothing is extracted, and no entry is opened before all sizes add up."""

from __future__ import annotations

import zipfile
from pathlib import Path

from vlm_jax.errors import UserError
from vlm_jax.weights.arrays import check_total

_MAX_ENTRIES = 1_000_000


class Archive:
    """The entries of one zip file by name. `read` checks the entry's checksum.

    Raises:
      UserError: names that leave the archive, entries that add up to more than the file can hold.
      zipfile.BadZipFile and others of `arrays.FAULTS`: damaged.
    """

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self.size = path.stat().st_size
        try:
            self._check()
        except BaseException:
            self._zip.close()
            raise
        self.entries = {entry.filename: entry for entry in self._zip.infolist()}

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _check(self) -> None:
        entries = self._zip.infolist()
        if len(entries) > _MAX_ENTRIES or len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("its list of entries names one twice, or over a million")
        for entry in entries:
            name = entry.filename
            if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
                raise UserError(f"the entry {name[:80]!r} points out of the archive: it was not made by a trainer")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(
                    f"the entry {name[:80]!r} is compressed in a way that is not read: store it, or deflate"
                )
            if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
                raise ValueError(f"the entry {name[:80]!r} has two sizes")
        if sum(entry.compress_size for entry in entries) > self.size:
            raise ValueError("its entries are larger than the file")  # they overlap, or it is cut off
        check_total(sum(entry.file_size for entry in entries), self.size)

    def read(self, name: str) -> bytes:
        """All bytes of an entry."""
        entry = self.entries[name]
        with self._zip.open(entry) as stream:
            raw = stream.read(entry.file_size + 1)  # the end must be reached: only there is the checksum compared
        if len(raw) != entry.file_size:
            raise ValueError(f"the entry {name[:80]!r} holds {len(raw):,} bytes of {entry.file_size:,}")
        return raw
