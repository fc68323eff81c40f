"""The parts of a data set while it is built: one a procedure, made by several threads, finished in any order."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from vlm_jax.contract import DatasetInfo, Frame, ProcedureBundle
from vlm_jax.data import tables as rows
from vlm_jax.data import tfds_layout
from vlm_jax.data.files import TEMPORARY, publish, read_json, sha256_file, to_json, write_bytes
from vlm_jax.data.frame_index import FrameIndex
from vlm_jax.data.progress import Progress

BUILD = "build"
"""The directory, inside the data set's, of the parts."""


def parts_in_order(
    directory: Path,
    info: DatasetInfo,
    ids: Sequence[str],
    make: Callable[[str], ProcedureBundle],
    bar: Progress,
    workers: int,
) -> Iterator[dict[str, Any]]:
    """The part of each procedure in the order of `ids`: read if it is whole on disk, else made and written.

    Where one fails those before it are finished and none after it is begun; where the caller stops (Ctrl-C), those
    under way end at their next frame. Nothing is left half-written.
    """
    failed: list[int] = []
    stopped = threading.Event()

    def part(index: int) -> dict[str, Any]:
        stem = directory / BUILD / f"{index:06d}"
        shard = directory / tfds_layout.shard_name(index, len(ids))
        if found := _finished_part(stem, shard, len(info.labels)):
            return found
        # One before the failed is made, though its thread may come here late: the caller is to meet the failure first.
        if stopped.is_set() or any(index > other for other in failed):
            raise CancelledError
        try:
            return _write_part(stem, shard, info, make(ids[index]), ids[index], bar, stopped)
        except BaseException:
            failed.append(index)
            raise

    with ThreadPoolExecutor(workers, "procedure") as pool:
        futures = [pool.submit(part, index) for index in range(len(ids))]
        try:
            for future in futures:
                yield future.result()
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C, or the generator was closed
                stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _finished_part(stem: Path, shard: Path, n_labels: int) -> dict[str, Any] | None:
    """The rows of a procedure that an earlier run finished. Its JSON is written last, so it vouches for the rest."""
    file = stem.with_suffix(".json")
    if not file.is_file():
        return None
    part = read_json(file)
    if part["shard"]["records"] and (not shard.is_file() or shard.stat().st_size != part["shard"]["bytes"]):
        return None
    return part | {"frames": FrameIndex.read(stem.with_suffix(".npz"), n_labels)}


def _write_part(
    stem: Path,
    shard: Path,
    info: DatasetInfo,
    bundle: ProcedureBundle,
    procedure: str,
    bar: Progress,
    stopped: threading.Event,
) -> dict[str, Any]:
    """Writes one procedure: shard, then columns, then (vouching for both) the rows."""
    rows.check_bundle(bundle, info, procedure)
    light = _write_shard(shard, rows.checked_frames(bundle, info), bar, stopped)
    frames = FrameIndex.from_frames(light, len(info.labels))
    write_bytes(stem.with_suffix(".npz"), frames.to_npz())
    part: dict[str, Any] = {
        "procedures": [rows.to_dict(bundle.procedure)],
        "videos": [rows.to_dict(row) for row in bundle.videos],
        "activities": [rows.to_dict(row) for row in bundle.activities],
        "sentences": [rows.to_dict(row) for row in bundle.sentences],
        "shard": {
            "file": shard.name,
            "records": len(light),
            "bytes": shard.stat().st_size if light else 0,
            "sha256": sha256_file(shard) if light else "",
        },
    }
    write_bytes(stem.with_suffix(".json"), to_json(part))
    return part | {"frames": frames}


def _write_shard(shard: Path, frames: Iterable[Frame], bar: Progress, stopped: threading.Event) -> list[Frame]:
    """Writes the frames of one procedure; returns them without their images. No frame, no file (TFDS wants none)."""
    light: list[Frame] = []
    temporary = shard.with_name(shard.name + TEMPORARY)
    writer = None
    try:
        for frame in frames:
            if stopped.is_set():
                raise CancelledError
            if writer is None:
                writer = array_record_module.ArrayRecordWriter(str(temporary), tfds_layout.WRITER_OPTIONS)
            writer.write(tfds_layout.serialise(frame))
            light.append(dataclasses.replace(frame, image=b"", mask=None, depth=None))
            bar.tick()
        if writer is not None:
            writer.close()
            publish(temporary, shard)
    except BaseException:
        if writer is not None:
            with contextlib.suppress(RuntimeError):  # the error that brought us here is the one to tell
                writer.close()
        temporary.unlink(missing_ok=True)
        raise
    return light
