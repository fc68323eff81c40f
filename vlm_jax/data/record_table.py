"""The records of all data sets of a run, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vlm_jax.contract import Record
from vlm_jax.data.records import SourceRecords


class RecordTable:
    """Records of all sources of a run, or a view of some: position i in the view, row `rows[i]` in the whole.

    Attributes:
      rows: int64[n], global rows; what `Batch.uid` holds.
    """

    def __init__(self, parts: Sequence[SourceRecords], groups: Sequence[np.ndarray], rows: np.ndarray | None = None):
        self._parts = tuple(parts)
        self._groups = tuple(groups)
        self._offsets = np.cumsum([0, *map(len, parts)])
        self.rows = np.arange(self._offsets[-1]) if rows is None else np.asarray(rows, np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Record]:
        """Every record, without its image's bytes."""
        return (self.record(i, image=False) for i in range(len(self)))

    def view(self, rows: np.ndarray) -> RecordTable:
        """The records of these global rows, in this order."""
        return RecordTable(self._parts, self._groups, rows)

    def locate(self, i: int) -> tuple[SourceRecords, int]:
        """(source, row in that source) of position `i`."""
        row = int(self.rows[i])
        part = int(np.searchsorted(self._offsets, row, side="right")) - 1
        return self._parts[part], row - int(self._offsets[part])

    def record(self, i: int, image: bool = True) -> Record:
        """The record at position `i`; without `image`, b"" stands where there is one."""
        part, row = self.locate(i)
        return part.record(row, self.group(i), image)

    def group(self, i: int) -> str:
        """What the record is grouped by in the split."""
        row = int(self.rows[i])
        part = int(np.searchsorted(self._offsets, row, side="right")) - 1
        return str(self._groups[part][row - int(self._offsets[part])])

    def activity(self, i: int) -> str | None:
        """Id of the record's activity."""
        part, row = self.locate(i)
        return part.activity_id(row)

    def sentence_place(self, i: int) -> int:
        """Place of the record's sentence in its sentences table, -1 = none."""
        part, row = self.locate(i)
        return part.sentence_place(row)

    def labels(self, i: int) -> np.ndarray:
        """int8[C of the source]: the labels T1 learns, -1 where not known."""
        part, row = self.locate(i)
        return part.labels(row)
