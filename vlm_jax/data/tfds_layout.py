"""Frames on disk as TFDS lays them out, without TensorFlow: array_record shards of tf.train.Example.

`tfds.builder_from_directory(DIR).as_data_source('frames')` reads them. We write them ourselves because
`download_and_prepare` gives other bytes for the same seed (the map order of protobuf) and can't resume.
"""

from __future__ import annotations

import contextlib
import functools
import re
import resource
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
from tensorflow_datasets.proto import tf_example_pb2

from vlm_jax.contract import IGNORE_LABEL, DatasetInfo, Frame
from vlm_jax.data.files import machine_fault
from vlm_jax.errors import EnvironmentFault, UserError

SPLIT = "frames"
WRITER_OPTIONS = "group_size:1,zstd:1"
"""One record a group, so that one frame is one read; the images are compressed already."""
# Without these the reader starts threads and reads megabytes ahead of every random access.
_READER_OPTIONS = "readahead_buffer_size:0"
_READER_BUFFER = 32768

Example: Any = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]
_FEATURES = "tensorflow_datasets.core.features."


def shard_name(index: int, count: int) -> str:
    """The file of shard `index` of `count`, as TFDS's template {SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y} spells it."""
    digits = max(5, len(str(count)))
    return f"{SPLIT}.array_record-{index:0{digits}d}-of-{count:0{digits}d}"


def _text() -> dict[str, Any]:
    return {"pythonClassName": f"{_FEATURES}text_feature.Text", "text": {}}


def _tensor(dtype: str, *shape: int) -> dict[str, Any]:
    dimensions = {"dimensions": [str(n) for n in shape]} if shape else {}
    return {
        "pythonClassName": f"{_FEATURES}tensor_feature.Tensor",
        "tensor": {"shape": dimensions, "dtype": dtype, "encoding": "none"},
    }


def _image(dtype: str, channels: int, encoding: str) -> dict[str, Any]:
    shape = {"dimensions": ["-1", "-1", str(channels)]}
    image = {"shape": shape, "dtype": dtype, "encodingFormat": encoding}
    return {"pythonClassName": f"{_FEATURES}image_feature.Image", "image": image}


EXTRAS: dict[str, dict[str, Any]] = {"mask": _image("uint8", 1, "png"), "depth": _image("uint16", 1, "png")}
"""What frames may carry beside their images (`DatasetInfo.extras`)."""


def features_json(n_labels: int, extras: Sequence[str] = ()) -> dict[str, Any]:
    """The content of features.json for `n_labels` landmarks; `extras` of `EXTRAS`."""
    features = {
        "activity": _text(),
        "assessable": _tensor("bool"),
        "fractions": _tensor("float32", n_labels),
        "image": _image("uint8", 3, "jpeg"),
        "procedure": _text(),
        "pts_ms": _tensor("int64"),
        "uid": _text(),
        "video": _text(),
        "visible": _tensor("int8", n_labels),
        **{name: EXTRAS[name] for name in extras},
    }
    return {
        "pythonClassName": f"{_FEATURES}features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def dataset_info_json(info: DatasetInfo, lengths: Sequence[int], n_bytes: int) -> dict[str, Any]:
    """The content of dataset_info.json; `lengths` are the records of each shard, in order."""
    split = {
        "name": SPLIT,
        "numBytes": str(n_bytes),
        "shardLengths": [str(n) for n in lengths],
        "filepathTemplate": "{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }
    return {
        "name": re.sub(r"\W", "_", info.source) or "data",
        "version": "1.0.0",
        "description": f"Frames of '{info.source}' ({info.world}); labels: {', '.join(info.labels) or 'none'}.",
        "citation": info.citation,
        "redistributionInfo": {"license": info.licence},
        "fileFormat": "array_record",
        "splits": [split] if sum(lengths) else [],
    }


def serialise(frame: Frame) -> bytes:
    """tf.train.Example bytes of one frame, the same for the same frame."""
    example = Example()
    feature = example.features.feature
    for name in ("uid", "procedure", "video"):
        feature[name].bytes_list.value.append(getattr(frame, name).encode())
    feature["activity"].bytes_list.value.append((frame.activity or "").encode())
    feature["image"].bytes_list.value.append(frame.image)
    for name in EXTRAS:
        if (extra := getattr(frame, name)) is not None:
            feature[name].bytes_list.value.append(extra)
    feature["pts_ms"].int64_list.value.append(frame.pts_ms)
    feature["assessable"].int64_list.value.append(int(frame.assessable))
    feature["visible"].int64_list.value.extend(IGNORE_LABEL if v is None else v for v in frame.visible)
    feature["fractions"].float_list.value.extend(np.nan if v is None else v for v in frame.fractions)
    return example.SerializeToString(deterministic=True)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a reader needs of a serialised frame: its name, its JPEG bytes, and its mask's PNG bytes, if any."""

    uid: str
    image: bytes
    mask: bytes | None = None


def parse(example: bytes) -> Stored:
    """Reads what `serialise` wrote."""
    feature = Example.FromString(example).features.feature
    mask = feature["mask"].bytes_list.value if "mask" in feature else ()
    return Stored(feature["uid"].bytes_list.value[0].decode(), feature["image"].bytes_list.value[0], *mask)


@functools.cache
def most_open() -> int:
    """Shards of a data set that are open at a time: a quarter of the files that this process may have open.

    That number is raised to what the system allows, within reason: often it is 1,024 only where nobody asked for more.
    """
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if most == resource.RLIM_INFINITY else min(most, _MOST_FILES)
    if files != resource.RLIM_INFINITY and files < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
            files = wanted
    return max(1, (_MOST_FILES if files == resource.RLIM_INFINITY else files) // 4)


_MOST_FILES = 2**14


class ShardReader:
    """Random access over the shards of a directory; safe in threads, opened on first use, can be pickled.

    Args:
      directory: where the shards lie.
      lengths: records of each shard, in order; a shard without records has no file.
    """

    def __init__(self, directory: Path, lengths: Sequence[int]) -> None:
        self._directory = directory
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_directory": self._directory, "_starts": self._starts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open, self._lock = OrderedDict(), threading.Lock()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def path(self, shard: int) -> Path:
        """The file of one shard."""
        return self._directory / shard_name(shard, len(self._starts) - 1)

    def _reader(self, shard: int) -> Any:
        with self._lock:
            if shard in self._open:
                self._open.move_to_end(shard)
                return self._open[shard]
        # Outside the lock: to open takes as long as many reads. Of two that open the same shard the first counts.
        found = array_record_module.ArrayRecordReader(
            str(self.path(shard)), options=_READER_OPTIONS, file_reader_buffer_size=_READER_BUFFER
        )
        with self._lock:
            found = self._open.setdefault(shard, found)
            while len(self._open) > most_open():  # it closes once no thread reads from it any more
                self._open.popitem(last=False)
        return found

    def __getitem__(self, index: int) -> bytes:
        """The serialised frame at `index`.

        Raises:
          IndexError: there is no such frame.
          UserError: the shard is missing or damaged.
          EnvironmentFault: the disk does not answer.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        try:
            return self._reader(shard).read([index - int(self._starts[shard])])[0]
        except (RuntimeError, OSError) as error:
            if machine_fault(error):
                raise EnvironmentFault(f"'{self.path(shard)}' cannot be read just now ({error}): try again") from error
            reason = str(error).splitlines()[0][:120]
            raise UserError(
                f"'{self.path(shard)}' is missing or damaged ({reason}): build the data set again"
            ) from error
