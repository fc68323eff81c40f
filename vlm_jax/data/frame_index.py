"""What is known of every frame without its image: columns in memory, one npz on disk."""

from __future__ import annotations

import dataclasses
import io
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlm_jax.contract import IGNORE_LABEL, Frame
from vlm_jax.data.files import machine_fault
from vlm_jax.errors import UserError

# What numpy and zipfile raise where bytes of an npz have changed: in the archive (whose version or flags may then be
# none they know), in its compression, in an array's header.
_BY_LABEL = ("visible", "fractions")
_DAMAGED = (
    *(ValueError, TypeError, KeyError, EOFError, OSError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


@dataclass(frozen=True)
class FrameIndex:
    """Columns over the n frames of a data set, in stored order; C = number of labels.

    Attributes:
      uid, procedure, video: str[n].
      pts_ms: int64[n], milliseconds from the start of the video.
      activity: str[n], '' where the frame lies in no activity.
      assessable: bool[n].
      visible: int8[n, C]: 1, 0 or -1 (not known).
      fractions: float32[n, C], share of the image's area, NaN where not known.
    """

    uid: np.ndarray
    procedure: np.ndarray
    video: np.ndarray
    pts_ms: np.ndarray
    activity: np.ndarray
    assessable: np.ndarray
    visible: np.ndarray
    fractions: np.ndarray

    def __len__(self) -> int:
        return len(self.uid)

    @staticmethod
    def from_frames(frames: Sequence[Frame], n_labels: int) -> FrameIndex:
        """The columns of `frames`, whose `image` is not looked at."""
        visible = [[IGNORE_LABEL if v is None else v for v in frame.visible] for frame in frames]
        fractions = [[np.nan if v is None else v for v in frame.fractions] for frame in frames]
        return FrameIndex(
            uid=np.array([f.uid for f in frames], dtype=np.str_),
            procedure=np.array([f.procedure for f in frames], dtype=np.str_),
            video=np.array([f.video for f in frames], dtype=np.str_),
            pts_ms=np.array([f.pts_ms for f in frames], dtype=np.int64),
            activity=np.array([f.activity or "" for f in frames], dtype=np.str_),
            assessable=np.array([f.assessable for f in frames], dtype=np.bool_),
            visible=np.array(visible, dtype=np.int8).reshape(len(frames), n_labels),
            fractions=np.array(fractions, dtype=np.float32).reshape(len(frames), n_labels),
        )

    @staticmethod
    def concatenate(parts: Sequence[FrameIndex], n_labels: int) -> FrameIndex:
        """The parts one after the other; no part at all gives the empty index."""
        empty = FrameIndex.from_frames((), n_labels)
        names = [field.name for field in dataclasses.fields(FrameIndex)]
        return FrameIndex(**{n: np.concatenate([getattr(p, n) for p in (empty, *parts)]) for n in names})

    def to_npz(self) -> bytes:
        """A compressed npz; numpy stamps its members with a fixed date, so equal columns give equal bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
        return buffer.getvalue()

    @staticmethod
    def read(path: Path, n_labels: int) -> FrameIndex:
        """Reads what `to_npz` gave; never unpickles. UserError names a damaged file."""
        try:
            with np.load(path, allow_pickle=False) as columns:
                found = {name: columns[name] for name in columns.files}
            n = len(found["uid"])
            if bad := [k for k, v in found.items() if v.shape != ((n, n_labels) if k in _BY_LABEL else (n,))]:
                raise ValueError(f"{bad[0]} is not of {n} frames" + (f" and {n_labels} labels" * (bad[0] in _BY_LABEL)))
            return FrameIndex(**found)
        except _DAMAGED as error:
            if isinstance(error, FileNotFoundError) or machine_fault(error):
                raise
            raise UserError(f"'{path}' is damaged ({error}): build the data set again") from error
