"""The join of the tables: one record for a frame, or for a sentence of a report without frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from vlm_jax.config.schema import DataConfig
from vlm_jax.contract import END, IGNORE_LABEL, START, DatasetInfo, Label, Record, Sentence

if TYPE_CHECKING:
    from vlm_jax.data.store import Dataset

Level = Literal["patient", "procedure", "sequence"]
LEVELS: tuple[Level, ...] = ("patient", "procedure", "sequence")
"""What records may be grouped by for a split, the strictest first."""

NONE = -1

CONTEXT_SENTENCES = 1
"""How many sentences before the one to write go into its prompt (one: Bieck et al. 2021)."""


def join_context(sentences: Sequence[str]) -> str:
    """The context of the next sentence: the last ones written, or START where there is none yet."""
    return " ".join(sentences[-CONTEXT_SENTENCES:]) if sentences else START


@dataclass(frozen=True)
class _Neighbours:
    """Texts before and after an activity in its video."""

    previous: str | None
    following: str | None


class SourceRecords:
    """The records of one data set, as columns of indices into its tables; texts are joined when asked for.

    A frame that carries nothing (in no activity or not assessable, and outside every sentence's window) is no record.

    Attributes:
      frame, activity, sentence: int64[n], rows of the frame index and of the tables; -1 = none.
      procedure: int64[n], row of the procedures table.
    """

    def __init__(self, dataset: Dataset, landmark_labels: str = "activity"):
        self.dataset = dataset
        self.info: DatasetInfo = dataset.info
        self._use_activity_labels = landmark_labels == "activity"
        tables = dataset.tables
        self._procedure_place = {p.id: i for i, p in enumerate(tables.procedures)}
        self._activity_place = {a.id: i for i, a in enumerate(tables.activities)}
        self._has_descriptions = any(a.description is not None for a in tables.activities)
        self._neighbours = self._join_activities()
        self._reports = self._join_reports()
        self._context = self._join_contexts()
        columns = [part for i in range(len(tables.procedures)) for part in self._procedure_rows(i)]
        stacked = np.array(columns, dtype=np.int64).reshape(len(columns), 4)
        self.frame, self.activity, self.sentence, self.procedure = stacked.T

    def __len__(self) -> int:
        return len(self.frame)

    # --- Building ----------------------------------------------------------------------------------------------------

    def _join_activities(self) -> list[_Neighbours]:
        """Neighbours within the same procedure and video, by time."""
        activities = self.dataset.tables.activities
        chains: dict[tuple[str, str], list[int]] = {}
        for i in sorted(range(len(activities)), key=lambda i: (activities[i].t0, activities[i].t1)):
            chains.setdefault((activities[i].procedure, activities[i].video), []).append(i)
        out = [_Neighbours(None, None)] * len(activities)
        for chain in chains.values():
            texts = [START if self._has_descriptions else None]
            texts += [activities[i].description for i in chain]
            texts.append(END if self._has_descriptions else None)
            for place, i in enumerate(chain):
                out[i] = _Neighbours(texts[place], texts[place + 2])
        return out

    def _join_reports(self) -> dict[str, list[int]]:
        """procedure id -> its sentences, in the order of the report."""
        reports: dict[str, list[int]] = {}
        for i, sentence in enumerate(self.dataset.tables.sentences):
            reports.setdefault(sentence.procedure, []).append(i)
        return reports

    def _join_contexts(self) -> list[str]:
        sentences = self.dataset.tables.sentences
        out = [START] * len(sentences)
        for report in self._reports.values():
            for place, i in enumerate(report):
                out[i] = join_context([sentences[j].text for j in report[:place]])
        return out

    @cached_property
    def _frames_of(self) -> dict[str, np.ndarray]:
        """procedure id -> its frames, by video and time."""
        index = self.dataset.frames
        if not len(index):
            return {}
        order = np.lexsort((index.pts_ms, index.video, index.procedure))
        names, starts = np.unique(index.procedure[order], return_index=True)
        return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))

    def _procedure_rows(self, procedure: int) -> Iterator[tuple[int, int, int, int]]:
        """(frame, activity, sentence, procedure) of each record of one procedure."""
        name = self.dataset.tables.procedures[procedure].id
        report = self._reports.get(name, [])
        frames = self._frames_of.get(name)
        if frames is None:
            yield from ((NONE, NONE, i, procedure) for i in report)
            return
        index = self.dataset.frames
        picker = _WindowPicker([(i, self.dataset.tables.sentences[i]) for i in report])
        for frame in frames[index.assessable[frames]].tolist():
            activity = self._activity_place.get(str(index.activity[frame]), NONE)
            sentence = picker.pick(int(index.pts_ms[frame]))
            own_labels = not self._use_activity_labels and bool((index.visible[frame] != IGNORE_LABEL).any())
            if activity != NONE or sentence != NONE or own_labels:
                yield frame, activity, sentence, procedure

    # --- Reading -----------------------------------------------------------------------------------------------------

    def record(self, i: int, group: str, image: bool = True) -> Record:
        """Joins row `i`. Without `image`, b"" stands where there is one."""
        tables, index = self.dataset.tables, self.dataset.frames
        frame, activity, sentence = int(self.frame[i]), int(self.activity[i]), int(self.sentence[i])
        fields: dict = {"source": self.info.source, "procedure": self.procedure_id(i), "group": group}
        if frame != NONE:
            fields |= {
                "uid": str(index.uid[frame]),
                "video": str(index.video[frame]),
                "image": self.dataset.read_image(frame) if image else b"",
                "visible": _labels(index.visible[frame]),
            }
        if activity != NONE:
            row, texts = tables.activities[activity], self._neighbours[activity]
            fields |= {
                "activity": row.id,
                "previous": texts.previous,
                "description": row.description,
                "next_description": texts.following,
            }
        if sentence != NONE:
            row = tables.sentences[sentence]
            fields.setdefault("uid", row.id)
            fields |= {
                "sentence": row.id,
                "keyword": row.keyword,
                "context": self._context[sentence],
                "report_sentence": row.text,
                "references": row.references,
            }
        return Record(**fields, landmarks=_known(self.labels(i)))

    def labels(self, i: int) -> np.ndarray:
        """int8[C]: the labels T1 learns for row `i`, -1 where not known."""
        if self._use_activity_labels:
            activity = int(self.activity[i])
            return self._activity_labels[activity] if activity != NONE else self._no_labels
        frame = int(self.frame[i])
        return self.dataset.frames.visible[frame] if frame != NONE else self._no_labels

    @cached_property
    def _no_labels(self) -> np.ndarray:
        return np.full(len(self.info.labels), IGNORE_LABEL, np.int8)

    @cached_property
    def _activity_labels(self) -> np.ndarray:
        rows = [[IGNORE_LABEL if v is None else v for v in a.landmarks] for a in self.dataset.tables.activities]
        return np.array(rows, dtype=np.int8).reshape(len(rows), len(self.info.labels))

    def procedure_id(self, i: int) -> str:
        return self.dataset.tables.procedures[int(self.procedure[i])].id

    def activity_id(self, i: int) -> str | None:
        place = int(self.activity[i])
        return None if place == NONE else self.dataset.tables.activities[place].id

    # --- Groups ------------------------------------------------------------------------------------------------------

    def has(self, level: Level) -> bool:
        """Whether the source has such a column, filled in every row."""
        if level == "sequence":
            return bool(len(self)) and bool((self.frame != NONE).all())
        return level == "procedure" or all(p.patient for p in self.dataset.tables.procedures)

    def groups(self, level: Level) -> np.ndarray:
        """str[n]: each record's group at `level`; a record without a video is its procedure's."""
        procedures = self.dataset.tables.procedures
        names = [p.patient if level == "patient" else p.id for p in procedures]
        out = np.array(names, dtype=np.str_)[self.procedure] if names else np.zeros(0, np.str_)
        if level != "sequence":
            return out
        out = out.astype(object)
        has_frame = self.frame != NONE
        out[has_frame] = self.dataset.frames.video[self.frame[has_frame]]
        return out.astype(np.str_)


class _WindowPicker:
    """Picks the sentence of a moment. Where windows overlap, the one that has had the fewest frames yet."""

    def __init__(self, report: Sequence[tuple[int, Sentence]]):
        self._windows = [(i, s.t0, s.t1) for i, s in report if s.t0 is not None and s.t1 is not None]
        self._used = dict.fromkeys((i for i, _, _ in self._windows), 0)

    def pick(self, pts_ms: int) -> int:
        """Row of the sentence whose window [t0, t1) holds `pts_ms`, or -1."""
        open_now = [i for i, t0, t1 in self._windows if t0 <= pts_ms < t1]
        if not open_now:
            return NONE
        chosen = min(open_now, key=self._used.__getitem__)
        self._used[chosen] += 1
        return chosen


def _labels(row: np.ndarray) -> tuple[Label, ...]:
    return tuple(None if v == IGNORE_LABEL else int(v) for v in row.tolist())  # pyright: ignore[reportReturnType]


def _known(row: np.ndarray) -> tuple[Label, ...] | None:
    """None where not one label is known: the source does not carry the task here."""
    return _labels(row) if (row != IGNORE_LABEL).any() else None


def build_records(dataset: Dataset, config: DataConfig) -> SourceRecords:
    """The records of one data set, without their images."""
    return SourceRecords(dataset, config.landmark_labels)


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

    def labels(self, i: int) -> np.ndarray:
        """int8[C of the source]: the labels T1 learns, -1 where not known."""
        part, row = self.locate(i)
        return part.labels(row)
