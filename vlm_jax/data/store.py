"""A data set on disk: five tables, written one procedure at a time, whole or not at all, the same bytes each time.

Layout of the directory:
  procedures.jsonl, videos.jsonl, activities.jsonl, sentences.jsonl   the small tables
  frames.array_record-*, features.json, dataset_info.json             the frames, as TFDS reads them
  frames.npz                                                          the frames' columns without their images
  README.md                                                           the card: what is in it, for people
  dataset.json                                                        what is true of the whole; written last

While a build is under way `build/` holds its arguments and the rows of the finished procedures; a directory without
dataset.json is not a data set yet, and the same command finishes it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_jax.contract import DatasetInfo, ProcedureBundle, Tables
from vlm_jax.data import tables as rows
from vlm_jax.data import tfds_layout
from vlm_jax.data.card import CARD, dataset_card
from vlm_jax.data.files import (
    LOCK,
    TEMPORARY,
    alone_in,
    disk_faults,
    local_path,
    read_json,
    sha256_file,
    to_json,
    write_bytes,
)
from vlm_jax.data.frame_index import FrameIndex
from vlm_jax.data.parts import BUILD, parts_in_order
from vlm_jax.data.progress import Progress
from vlm_jax.errors import UserError

FORMAT = 1


# --- Reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dataset:
    """An opened data set. Images are read one at a time; all else is in memory.

    Attributes:
      shards: one {file, records, bytes, sha256} a procedure, as written.
      fingerprint: sha256 (hex) over the info, the tables and the digests of the shards.
      changed: files of the tables that are no longer what was written; read all the same, and the doctor names them.
    """

    path: Path
    info: DatasetInfo
    tables: Tables
    frames: FrameIndex
    shards: tuple[dict[str, Any], ...]
    fingerprint: str
    reader: tfds_layout.ShardReader
    changed: tuple[str, ...] = ()

    def read_image(self, i: int) -> bytes:
        """JPEG bytes of frame `i` (a row of `frames`). Safe in threads."""
        return self.read_frame(i).image

    def read_frame(self, i: int) -> tfds_layout.Stored:
        """JPEG bytes of frame `i`, and its mask's PNG bytes where the data set has masks. Safe in threads."""
        return tfds_layout.parse(self.reader[i])


def open_dataset(path: str | Path) -> Dataset:
    """Opens what `write_dataset` wrote.

    Raises:
      UserError: there is no data set, it is not finished, or a file of it is missing or damaged.
    """
    directory = local_path(path, "data set")
    if not (directory / "dataset.json").is_file():
        if (directory / BUILD).is_dir():
            raise UserError(f"data set '{directory}' is not finished: run the command that builds it again")
        raise UserError(
            f"'{directory}' is not a data set (no dataset.json): build one with 'vlm-jax data build' "
            "or 'vlm-jax data simulate'"
        )
    meta = read_json(directory / "dataset.json")
    found = meta.get("format") if isinstance(meta, dict) else None
    if found != FORMAT:
        raise UserError(f"data set '{directory}' has format {found}, this version reads {FORMAT}: build it again")
    try:
        return _open(directory, meta)
    except FileNotFoundError as error:
        raise UserError(f"data set '{directory}' lacks '{Path(error.filename).name}': build it again") from error
    except (KeyError, TypeError, AttributeError, ValueError, IsADirectoryError) as error:
        what = f"{type(error).__name__}: {error}"
        raise UserError(f"data set '{directory}' is damaged ({what}): build it again") from error


def _open(directory: Path, meta: dict[str, Any]) -> Dataset:
    info = rows.from_dict(DatasetInfo, meta["info"])
    tables = rows.read_tables(directory)
    frames = FrameIndex.read(directory / "frames.npz", len(info.labels))
    shards = tuple(meta["shards"])
    lengths = [shard["records"] for shard in shards]
    if sum(lengths) != len(frames):
        raise UserError(
            f"data set '{directory}' has {len(frames)} frames in its table, {sum(lengths)} in shards: build it again"
        )
    tables_now, written = table_digests(directory), meta.get("tables", {})
    digests = [*tables_now.values(), *(shard["sha256"] for shard in shards)]
    return Dataset(
        path=directory,
        info=info,
        tables=tables,
        frames=frames,
        shards=shards,
        fingerprint=hashlib.sha256(to_json([meta["info"], digests])).hexdigest(),
        reader=tfds_layout.ShardReader(directory, lengths),
        changed=tuple(name for name, digest in tables_now.items() if digest != written.get(name, digest)),
    )


def table_digests(directory: Path) -> dict[str, str]:
    """{file: sha256} of the tables and the frames' columns."""
    return {name: sha256_file(directory / name) for name in (*(f"{n}.jsonl" for n in rows.TABLES), "frames.npz")}


# --- Writing ---------------------------------------------------------------------------------------------------------


def write_dataset(
    out: str | Path,
    info: DatasetInfo,
    ids: Sequence[str],
    make: Callable[[str], ProcedureBundle],
    *,
    progress: bool = True,
    workers: int = 1,
) -> None:
    """Writes a data set into `out`, procedure after procedure; the same call again goes on where it was cut off.

    Args:
      out: the directory; made if absent. It must be empty, or hold this very data set, finished or not.
      info: what is true of the whole data set; its `generator` holds every setting that changes a byte.
      ids: the procedures, in order.
      make: makes one procedure; called once for each id that is not on disk yet.
      progress: say on stderr how far it is.
      workers: threads, each with a procedure of its own; `make` must bear it. The bytes don't depend on their number.

    Raises:
      UserError: `out` holds something else, or a row breaks the contract.
      EnvironmentFault: the disk is full; what is finished stays.
    """
    directory = local_path(out, "output directory")
    if not ids:
        raise UserError(f"nothing to write into '{directory}': the source has no procedures")
    arguments = {"format": FORMAT, "info": rows.to_dict(info), "ids": list(ids)}
    with disk_faults(directory), alone_in(directory):
        if not _begin(directory, arguments):
            return
        parts = []
        with Progress("procedure", len(ids), "frames", progress) as bar:
            for part in parts_in_order(directory, info, ids, make, bar, workers):
                parts.append(part)
                bar.step(
                    f"{part['shard']['records']} frames, {len(part['activities'])} activities, "
                    f"{len(part['sentences'])} sentences"
                )
        _finish(directory, info, parts, arguments)


def _plain(value: Any) -> Any:
    """`value` as JSON gives it back: tuples as lists, keys as strings."""
    return json.loads(to_json(value))


def _differences(now: Any, then: Any, key: str = "") -> list[str]:
    """Dotted keys in which two plain values differ."""
    if isinstance(now, dict) and isinstance(then, dict):
        keys = dict.fromkeys((*now, *then))
        return [d for k in keys for d in _differences(now.get(k), then.get(k), f"{key}.{k}".lstrip("."))]
    return [] if now == then else [key]


def _begin(directory: Path, arguments: dict[str, Any]) -> bool:
    """Prepares the directory; False if the data set is there already. UserError if `directory` holds another."""
    arguments = _plain(arguments)
    finished, begun = directory / "dataset.json", directory / BUILD / "arguments.json"
    for file in (finished, begun):
        if file.is_file():
            stored = {key: read_json(file).get(key) for key in arguments}
            if stored != arguments:
                changed = ", ".join(_differences(arguments, stored))
                raise UserError(
                    f"'{directory}' holds another data set ({changed} differ): its input or its settings have changed; "
                    "take another directory, or remove this one to build it anew"
                )
    if finished.is_file():
        shutil.rmtree(directory / BUILD, ignore_errors=True)  # cut off between the last rename and the tidying
        return False
    if not begun.is_file():
        if directory.is_file() or (
            directory.is_dir() and any(p.name not in (BUILD, LOCK) for p in directory.iterdir())
        ):
            raise UserError(f"'{directory}' exists and is not a data set: choose an empty directory for --out")
        begun.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(begun, to_json(arguments))
    for trace in (*directory.glob(f"*{TEMPORARY}"), *begun.parent.glob(f"*{TEMPORARY}")):
        trace.unlink()
    return True


def _finish(directory: Path, info: DatasetInfo, parts: Sequence[dict[str, Any]], arguments: dict[str, Any]) -> None:
    """Joins the parts into the tables; dataset.json, last, makes the directory a data set."""
    tables = Tables(
        *(
            tuple(rows.from_dict(kind, row) for part in parts for row in part[name])
            for name, kind in rows.TABLES.items()
        )
    )
    rows.check_unique(tables)
    frames = FrameIndex.concatenate([part["frames"] for part in parts], len(info.labels))
    rows.check_unique_uids(frames.uid.tolist())
    shards = [part["shard"] for part in parts]
    for name in rows.TABLES:
        write_bytes(directory / f"{name}.jsonl", rows.dump_rows(getattr(tables, name)))
    write_bytes(directory / "frames.npz", frames.to_npz())
    write_bytes(
        directory / "features.json", to_json(tfds_layout.features_json(len(info.labels), info.extras), indent=2)
    )
    lengths, n_bytes = [s["records"] for s in shards], sum(s["bytes"] for s in shards)
    write_bytes(
        directory / "dataset_info.json", to_json(tfds_layout.dataset_info_json(info, lengths, n_bytes), indent=2)
    )
    write_bytes(directory / CARD, dataset_card(info, tables, frames).encode())
    whole = arguments | {"shards": shards, "tables": table_digests(directory)}
    write_bytes(directory / "dataset.json", to_json(whole, indent=2))
    shutil.rmtree(directory / BUILD)
