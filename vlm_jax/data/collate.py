"""Records to batches: prompts, targets, labels and masks as numpy arrays of fixed shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from vlm_jax.config.parts import asks_for_places
from vlm_jax.config.schema import Config
from vlm_jax.contract import NO_REGIONS, PRETRAIN_TASKS, TASKS, Batch, LabelSpace, Record
from vlm_jax.data.augment import mirror_columns, mirror_record
from vlm_jax.data.changes import NO_CHANGES, Changes
from vlm_jax.data.transforms import decode_image, decode_mask
from vlm_jax.errors import UserError
from vlm_jax.tasks import TASK_TABLE, task_slot
from vlm_jax.text.prompts import encode_prompt, encode_target
from vlm_jax.text.tokenizer import Tokenizer

Row = dict[str, np.ndarray]
"""One slot of a batch: the fields of `Batch` without their first axis."""

PADDING = -1
"""The uid of a slot without a record."""


class Collator:
    """Turns one record into one row. Holds what is fixed over a run; safe to share between threads.

    Args:
      tokenizer: the run's.
      labels: the run's landmark axis.
      config: the run's; sizes and tasks are read.
      columns: for each source, the column of `labels` that each of its own labels goes to (-1: the model does not know
        it). By default the source's own slots.
    """

    def __init__(
        self, tokenizer: Tokenizer, labels: LabelSpace, config: Config, columns: Mapping[str, np.ndarray] | None = None
    ):
        self.tokenizer = tokenizer
        self.labels = labels
        self.tasks = config.tasks
        self.size = config.data.image_size
        self.frames = config.data.frames
        # The prompts of all four tasks are written, for some share one; an objective of pre-training stands alone.
        alone = [name for name in config.tasks if name in PRETRAIN_TASKS]
        self._slots = [(task_slot(name), name) for name in alone or TASKS]
        self.prompt_length = config.data.prompt_length
        self.target_length = config.data.target_length
        self._columns = columns
        self._mirror = mirror_columns(labels.names)
        self.regions = asks_for_places(config)

    def empty(self, row: int = PADDING) -> Row:
        """A slot that holds nothing: valid = False."""
        n_tasks, n_labels = len(TASKS), len(self.labels)
        return {
            "image": np.zeros((self.frames, self.size, self.size, 3), np.uint8),
            "frame_mask": np.zeros(self.frames, np.bool_),
            "landmarks": np.zeros(n_labels, np.int8),
            "landmarks_mask": np.zeros(n_labels, np.bool_),
            "prompt": np.zeros((n_tasks, self.prompt_length), np.int32),
            "target": np.zeros((n_tasks, self.target_length), np.int32),
            "task_mask": np.zeros(n_tasks, np.bool_),
            "valid": np.zeros((), np.bool_),
            "uid": np.array(row, np.int32),
            **({"regions": np.full((self.size, self.size), NO_REGIONS, np.uint8)} if self.regions else {}),
        }

    def decode(
        self, image: bytes, mask: bytes | None, name: str, *, strict: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The image uint8[S, S, 3]; its mask uint8[S, S], where the run looks at masks and there is one.

        Args:
          strict: raise for a damaged mask, too, in place of saying that there is none.

        Raises:
          UserError: one of them is not readable; begins with `name`.
        """
        pixels = decode_image(image, self.size, name)
        if not mask or not self.regions:
            return pixels, None
        try:
            return pixels, decode_mask(mask, self.size, name)
        except UserError:
            if strict:
                raise
            return pixels, None

    def row(
        self,
        record: Record,
        image: np.ndarray | None,
        *,
        row: int = PADDING,
        changes: Changes = NO_CHANGES,
        before: Sequence[np.ndarray | None] = (),
        mask: np.ndarray | None = None,
    ) -> Row:
        """One filled slot.

        Args:
          record: its `image` only says whether there is one.
          image: uint8[H, W, 3] of the run's size, or None.
          row: the record's row in the run's table.
          changes: what augmentation does to it.
          before: up to F - 1 images of the frames before it, the nearest first; they change as the image does. None:
            not known.
          mask: uint8[H, W], the label (from 1, of the source's own) of each pixel; None: not known.
        """
        out = self.empty(row)
        if changes.flip:
            record = mirror_record(record)
        if image is not None and not changes.drop_image:
            for place, frame in enumerate((image, *before)):
                if frame is None:
                    continue
                if changes.flip:  # a copy of numpy's reversed view takes 20 times as long
                    cv2.flip(frame, 1, dst=out["image"][place])
                else:
                    out["image"][place] = frame
                out["frame_mask"][place] = True
        self._set_landmarks(out, record, changes.flip)
        if self.regions and mask is not None and out["frame_mask"][0]:
            out["regions"] = self._own_columns(mask[:, ::-1] if changes.flip else mask, record, changes.flip)
        self._set_texts(out, record, changes.drop_text)
        out["valid"] = np.array(True)
        return out

    def _set_landmarks(self, out: Row, record: Record, flip: bool) -> None:
        if record.landmarks is None:
            return
        columns = self._columns_of(record)
        for column, label in zip(columns, record.landmarks, strict=True):
            if column >= 0 and label is not None:
                out["landmarks"][column] = label
                out["landmarks_mask"][column] = True
        if flip:
            known = self._mirror >= 0
            out["landmarks"] = np.where(known, out["landmarks"][self._mirror], 0).astype(np.int8)
            out["landmarks_mask"] = known & out["landmarks_mask"][self._mirror]

    def _columns_of(self, record: Record) -> np.ndarray:
        """int[n]: the column of each of the source's labels, -1 where the model does not know it."""
        columns = self._columns.get(record.source) if self._columns is not None else None
        return self.labels.slots(record.source) if columns is None else columns

    def _own_columns(self, mask: np.ndarray, record: Record, flip: bool) -> np.ndarray:
        """uint8[H, W] as in `Batch.regions` from a mask of the source's own labels; sided ones swap in a mirror."""
        columns = self._columns_of(record)
        if flip:  # a pixel of the left one is one of the right one now: where column c takes its value from, reversed
            goes_to = {int(source): column for column, source in enumerate(self._mirror) if source >= 0}
            columns = np.array([goes_to.get(int(c), -1) for c in columns], np.int64)
        table = np.zeros(256, np.uint8)
        table[1 : len(columns) + 1] = columns[:255] + 1  # a grey value names no label beyond
        return table[mask]

    def _set_texts(self, out: Row, record: Record, drop: tuple[bool, ...]) -> None:
        dropped: dict[tuple[str | None, ...], bool] = {}
        for k, name in self._slots:
            task = TASK_TABLE[name]
            segments = task.prompt(record)
            if not segments:  # the task reads no text
                out["task_mask"][k] = task.carried(record)
                continue
            # Tasks that share a prompt share its fate, for it is encoded once.
            if dropped.setdefault(segments, drop[k]):
                segments = (*segments[:-1], None)
            out["prompt"][k] = encode_prompt(self.tokenizer, segments, self.prompt_length)
            if name in self.tasks and task.carried(record):
                out["task_mask"][k] = True
                out["target"][k] = encode_target(self.tokenizer, name, task.target(record), self.target_length)


def stack(rows: Sequence[Row]) -> Batch:
    """Rows to one numpy batch."""
    return Batch(**{name: np.stack([row[name] for row in rows]) for name in rows[0]})


def make_batch(
    records: Sequence[Record | None],
    tokenizer: Tokenizer,
    labels: LabelSpace,
    config: Config,
    *,
    images: Sequence[np.ndarray | None] | None = None,
    before: Sequence[Sequence[np.ndarray]] | None = None,
    rows: Sequence[int] | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
) -> Batch:
    """A numpy batch of these records; None is a padded slot.

    Args:
      records: a record's `image` is decoded unless `images` gives it.
      tokenizer, labels, config: of the run or the checkpoint.
      images: decoded images, uint8[S, S, 3] with S = `config.data.image_size`; None where there is none.
      before: images of the frames before each, the nearest first; none by default.
      rows: the `uid` of each slot; by default its place in `records`.
      columns: see `Collator`.

    Raises:
      UserError: an image is not readable; names the record's uid.
    """
    collator = Collator(tokenizer, labels, config, columns)
    filled = []
    for i, record in enumerate(records):
        if record is None:
            filled.append(collator.empty())
            continue
        image, mask = (images[i] if images is not None else None), None
        if images is None and record.image is not None:
            image, mask = collator.decode(record.image, record.mask, record.uid)
        earlier = before[i] if before is not None else ()
        place = i if rows is None else rows[i]
        filled.append(collator.row(record, image, row=place, before=earlier, mask=mask))
    return stack(filled)
