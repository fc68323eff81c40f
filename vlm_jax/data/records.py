"""The join of the tables: one record for a frame, or for a sentence of a report without frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from vlm_jax.config.schema import DataConfig
from vlm_jax.contract import IGNORE_LABEL, DatasetInfo, Label, Record
from vlm_jax.data.joins import (
    NONE,
    WindowPicker,
    join_activities,
    join_contexts,
    join_reports,
    several_videos,
)
from vlm_jax.data.preceding import PrecedingFrames
from vlm_jax.data.transforms import decode_image
from vlm_jax.errors import EnvironmentFault, UserError

if TYPE_CHECKING:
    from vlm_jax.data.store import Dataset

Level = Literal["patient", "procedure", "sequence"]
LEVELS: tuple[Level, ...] = ("patient", "procedure", "sequence")
"""What records may be grouped by for a split, the strictest first."""


Unit = Literal["joined", "frames", "texts"]
"""What one record is: `joined`, a frame with its texts (or a sentence of a source without frames), for the model;
`frames`, any assessable frame, and `texts`, a sentence or a description without its frames, for pre-training."""
UNIT_OF: dict[str, Unit] = {"reconstruct": "frames", "mask_language": "texts"}
"""Task -> the unit of its run's records, where it is not `joined`."""


class SourceRecords:
    """The records of one data set, as columns of indices into its tables; texts are joined when asked for.

    A frame that carries nothing (in no activity or not assessable, and outside every sentence's window) is no record,
    except where records are `frames`.

    Attributes:
      frame, activity, sentence: int64[n], rows of the frame index and of the tables; -1 = none.
      procedure: int64[n], row of the procedures table.
    """

    def __init__(self, dataset: Dataset, landmark_labels: str = "activity", unit: Unit = "joined"):
        self.dataset = dataset
        self.unit = unit
        self.info: DatasetInfo = dataset.info
        self._use_activity_labels = landmark_labels == "activity"
        tables = dataset.tables
        self._activity_place = {a.id: i for i, a in enumerate(tables.activities)}
        self._neighbours = join_activities(tables.activities)
        self._reports = join_reports(tables.sentences)
        self._context = join_contexts(tables.sentences)
        self._ambiguous = several_videos(tables)
        columns = [part for i in range(len(tables.procedures)) for part in self._procedure_rows(i)]
        stacked = np.array(columns, dtype=np.int64).reshape(len(columns), 4)
        self.frame, self.activity, self.sentence, self.procedure = stacked.T

    def __len__(self) -> int:
        return len(self.frame)

    # --- Building ----------------------------------------------------------------------------------------------------

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
        if self.unit == "texts":
            yield from ((NONE, i, NONE, procedure) for i in self._described.get(name, ()))
            yield from ((NONE, NONE, i, procedure) for i in report)
            return
        frames = self._frames_of.get(name)
        if frames is None and self.unit == "frames":
            return
        if frames is None:
            yield from ((NONE, NONE, i, procedure) for i in report)
            return
        index = self.dataset.frames
        timed = [] if name in self._ambiguous else report
        picker = WindowPicker([(i, self.dataset.tables.sentences[i]) for i in timed])
        for frame in frames[index.assessable[frames]].tolist():
            activity = self._activity_place.get(str(index.activity[frame]), NONE)
            sentence = picker.pick(int(index.pts_ms[frame]))
            own_labels = not self._use_activity_labels and bool((index.visible[frame] != IGNORE_LABEL).any())
            if self.unit == "frames" or activity != NONE or sentence != NONE or own_labels:
                yield frame, activity, sentence, procedure

    @cached_property
    def _described(self) -> dict[str, list[int]]:
        """procedure id -> places of its activities that have a description, in the order of the table."""
        found: dict[str, list[int]] = {}
        for i, activity in enumerate(self.dataset.tables.activities):
            if activity.description is not None:
                found.setdefault(activity.procedure, []).append(i)
        return found

    @property
    def notices(self) -> list[str]:
        """What no record carries although frames are there, one line."""
        if self.unit != "joined":
            return []
        carried = set(self.sentence.tolist())
        lost = sum(i not in carried for name in self._frames_of for i in self._reports.get(name, ()))
        what = f"{lost} report sentences have no frame in a window of theirs: neither learned nor scored"
        return [f"{self.info.source}: {what}"] if lost else []

    # --- Reading -----------------------------------------------------------------------------------------------------

    def record(self, i: int, group: str, image: bool = True) -> Record:
        """Joins row `i`. Without `image`, b"" stands where there is one, and where there is a mask."""
        tables, index = self.dataset.tables, self.dataset.frames
        frame, activity, sentence = int(self.frame[i]), int(self.activity[i]), int(self.sentence[i])
        fields: dict = {"source": self.info.source, "procedure": self.procedure_id(i), "group": group}
        if frame != NONE:
            stored = self.dataset.read_frame(frame) if image else None
            fields |= {
                "uid": str(index.uid[frame]),
                "video": str(index.video[frame]),
                "image": stored.image if stored else b"",
                "mask": stored.mask if stored else b"" if "mask" in self.info.extras else None,
                "visible": _labels(index.visible[frame]),
            }
        if activity != NONE:
            row, texts = tables.activities[activity], self._neighbours[activity]
            fields.setdefault("uid", row.id)
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

    @cached_property
    def _preceding(self) -> PrecedingFrames:
        return PrecedingFrames(self.dataset.frames)

    def before(self, i: int, data: DataConfig) -> list[np.ndarray | None]:
        """Up to `data.frames` - 1 frames before row `i`'s in its video, uint8[size, size, 3], the nearest first.

        None stands for one that cannot be read: that is a fault of its own record, which counts it.
        """
        frame, index = int(self.frame[i]), self.dataset.frames
        if data.frames == 1 or frame == NONE:
            return []
        rows = self._preceding.before(frame, data.frames - 1, data.frame_step)

        def read(row: int) -> np.ndarray | None:
            try:
                return decode_image(self.dataset.read_image(row), data.image_size, str(index.uid[row]))
            except EnvironmentFault:  # the disk went away
                raise
            except UserError:
                return None

        return [read(row) for row in rows]

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

    def sentence_place(self, i: int) -> int:
        """Place of the record's sentence in the sentences table, which is in the order of the reports; -1 = none."""
        return int(self.sentence[i])

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


def _labels(row: np.ndarray) -> tuple[Label, ...]:
    return tuple(None if v == IGNORE_LABEL else int(v) for v in row.tolist())  # pyright: ignore[reportReturnType]


def _known(row: np.ndarray) -> tuple[Label, ...] | None:
    """None where not one label is known: the source does not carry the task here."""
    return _labels(row) if (row != IGNORE_LABEL).any() else None


def build_records(dataset: Dataset, config: DataConfig, unit: Unit = "joined") -> SourceRecords:
    """The records of one data set, without their images."""
    return SourceRecords(dataset, config.landmark_labels, unit)


def unit_of(tasks: Sequence[str]) -> Unit:
    """What one record of a run with these tasks is."""
    for task in tasks:
        if task in UNIT_OF:
            return UNIT_OF[task]
    return "joined"
