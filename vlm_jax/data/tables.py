"""The small tables as JSON lines, and the checks that every row of a bundle passes before it is written."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vlm_jax.contract import Activity, DatasetInfo, Frame, Procedure, ProcedureBundle, Sentence, Tables, Video
from vlm_jax.data.files import text_lines, to_json
from vlm_jax.data.tfds_layout import EXTRAS
from vlm_jax.errors import UserError

TABLES: dict[str, type] = {
    "procedures": Procedure,
    "videos": Video,
    "activities": Activity,
    "sentences": Sentence,
}
"""File stem -> row type, in the order of `contract.Tables`."""


def to_dict(row: Any) -> dict[str, Any]:
    """A row as plain JSON types."""
    return dataclasses.asdict(row)


def from_dict(kind: type, values: dict[str, Any]) -> Any:
    """A row from plain JSON types; lists become tuples.

    Raises:
      UserError: a field is missing or not known.
    """
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - known):
        raise UserError(f"{kind.__name__.lower()} row has unknown fields {unknown}; known are {sorted(known)}")
    try:
        row = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise UserError(f"{kind.__name__.lower()} row lacks a field: {error}") from error
    check_types(row)
    return row


def check_types(row: Any) -> None:
    """UserError where a field of a row holds what its table cannot."""
    for name, accepted in _accepted(type(row)).items():
        if not isinstance(value := getattr(row, name), accepted):
            expected = " or ".join(kind.__name__.replace("NoneType", "None") for kind in accepted)
            found = type(value).__name__.replace("NoneType", "None")  # not the value: it may be text of a patient
            raise UserError(f"{type(row).__name__.lower()} row: {name} is {found}, expected {expected}")


@functools.cache
def _accepted(kind: type) -> dict[str, tuple[type, ...]]:
    """{field: types that its value may have}."""
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
        plain = tuple(typing.get_origin(option) or option for option in options)
        found[name] = (*plain, int) if float in plain else plain
    return found


def dump_rows(rows: Iterable[Any]) -> bytes:
    """JSON lines, UTF-8."""
    return b"".join(to_json(to_dict(row)) for row in rows)


def read_rows(path: Path, kind: type) -> tuple[Any, ...]:
    """All rows of one JSON lines file; UserError names the file and the line."""
    rows = []
    try:
        lines = text_lines(path)
    except UnicodeDecodeError as error:
        raise UserError(
            f"'{path}' is damaged ({error.reason}, byte {error.start}): build the data set again"
        ) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(from_dict(kind, json.loads(line)))
        except (ValueError, AttributeError, UserError) as error:
            raise UserError(f"'{path}' line {number}: {error}; build the data set again") from error
    return tuple(rows)


def read_tables(directory: Path) -> Tables:
    """The four small tables of a data set directory."""
    return Tables(*(read_rows(directory / f"{name}.jsonl", kind) for name, kind in TABLES.items()))


def _unique(what: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in ids:
        if value in seen:
            raise UserError(f"{what} id '{value}' occurs twice: ids are unique within a data set")
        seen.add(value)


def check_unique(tables: Tables) -> None:
    """Raises UserError where an id repeats within its table."""
    for name in TABLES:
        _unique(name, (row.id for row in getattr(tables, name)))


def check_unique_uids(uids: Iterable[str]) -> None:
    """Raises UserError where two frames share a uid."""
    _unique("frame", uids)


def check_bundle(bundle: ProcedureBundle, info: DatasetInfo, expected_id: str) -> None:
    """What must hold for the rows of one procedure (frames apart: `checked_frames`).

    Raises:
      UserError: naming the row and what is wrong with it.
    """
    for row in (bundle.procedure, *bundle.videos, *bundle.activities, *bundle.sentences):
        check_types(row)
    procedure = bundle.procedure.id
    if procedure != expected_id:
        raise UserError(f"procedure '{expected_id}' was asked for, the source made '{procedure}'")
    videos = {video.id for video in bundle.videos}
    for row in (*bundle.videos, *bundle.activities, *bundle.sentences):
        if row.procedure != procedure:
            raise UserError(f"row '{row.id}' names procedure '{row.procedure}', but belongs to '{procedure}'")
    for row in bundle.activities:
        if row.video not in videos:
            raise UserError(f"activity '{row.id}' names video '{row.video}', which '{procedure}' does not have")
        if len(row.landmarks) != len(info.labels):
            raise UserError(
                f"activity '{row.id}' has {len(row.landmarks)} landmarks, the data set has {len(info.labels)} labels"
            )
        if row.t1 <= row.t0:
            raise UserError(f"activity '{row.id}' ends at {row.t1} ms, not after its start at {row.t0} ms")
    for row in bundle.sentences:
        if row.keyword is not None and row.keyword not in info.keywords:
            raise UserError(f"sentence '{row.id}' has keyword '{row.keyword}', which the closed list does not have")
        if row.t0 is not None and len(videos) > 1:
            raise UserError(
                f"sentence '{row.id}' has a window of time, but '{procedure}' has {len(videos)} videos and a sentence "
                "names none: leave t0 and t1 null, or make each video a procedure of the same patient"
            )


def checked_frames(bundle: ProcedureBundle, info: DatasetInfo) -> Iterator[Frame]:
    """The bundle's frames, each checked on its way; UserError names the frame."""
    videos = {video.id for video in bundle.videos}
    activities = {activity.id for activity in bundle.activities}
    n = len(info.labels)
    for frame in bundle.frames:
        if frame.procedure != bundle.procedure.id or frame.video not in videos:
            raise UserError(
                f"frame '{frame.uid}' names procedure '{frame.procedure}' and video '{frame.video}', "
                f"which '{bundle.procedure.id}' does not have"
            )
        if frame.activity is not None and frame.activity not in activities:
            raise UserError(f"frame '{frame.uid}' names activity '{frame.activity}', which does not exist")
        if len(frame.visible) != n or len(frame.fractions) != n:
            raise UserError(
                f"frame '{frame.uid}' has {len(frame.visible)} labels and {len(frame.fractions)} "
                f"fractions, the data set has {n} labels"
            )
        if not frame.image.startswith(b"\xff\xd8"):
            raise UserError(f"frame '{frame.uid}' is not a JPEG: encode images as JPEG before they are stored")
        _check_extras(frame, info)
        yield frame


def _check_extras(frame: Frame, info: DatasetInfo) -> None:
    for name in EXTRAS:
        value = getattr(frame, name)
        if (value is not None) != (name in info.extras):
            said = "not in" if value is not None else "in"
            raise UserError(f"frame '{frame.uid}': {name} is {said} the data set's extras {list(info.extras)}")
        if value is not None and not value.startswith(b"\x89PNG"):
            raise UserError(f"frame '{frame.uid}': its {name} is not a PNG")
