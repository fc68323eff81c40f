"""Adapter: your own frames, with landmarks and descriptions in a table, and reports in another (docs/own-data.md).

A folder with `labels.csv` and the images it names, PATIENT/NAME.jpg or PATIENT/VIDEO/NAME.jpg; perhaps `report.csv`.
Each video is a procedure of its patient. An activity is a run of frames of which the table says the same.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm_jax.contract import Activity, DatasetInfo, Frame, Label, Procedure, ProcedureBundle, Sentence, Video
from vlm_jax.data.files import digest_of_files, frames_first, local_path
from vlm_jax.data.sources.csv_tables import CsvTable, natural, seconds
from vlm_jax.data.sources.terms import licence_of, source_name
from vlm_jax.data.store import write_dataset
from vlm_jax.data.transforms import read_as_jpeg
from vlm_jax.errors import UserError

ADAPTER = "labelled_frames"
VERSION = 1
LABELS, REPORT = "labels.csv", "report.csv"
MS_PER_FRAME = 200
"""Five frames a second, where the table has no column `seconds`."""
NOT_LANDMARKS = ("image", "seconds", "description")
VALUES: dict[str, Label] = {"1": 1, "1.0": 1, "1,0": 1, "0": 0, "0.0": 0, "0,0": 0, "": None}
"""A landmark's cell, as spreadsheets write it; nothing means not known."""


@dataclass(frozen=True)
class Row:
    """One image of the table."""

    image: str
    at: int | None
    description: str | None
    labels: tuple[Label, ...]


def build(
    input_dir: str | Path,
    out: str | Path,
    *,
    licence: str | None = None,
    citation: str | None = None,
    progress: bool = True,
) -> None:
    """Writes the data set into `out`; the same call again finishes a build that was cut off.

    The source is named after the folder. `licence` and `citation` as in `BuildFn`.

    Raises:
      UserError: a table, a row or an image that cannot be used; names it.
      EnvironmentFault: the disk is full.
    """
    root = local_path(input_dir, "input")
    labels, videos = read_labels(root)
    sentences = read_report(root, videos) if (root / REPORT).is_file() else {}
    tables = [root / name for name in (LABELS, REPORT) if (root / name).is_file()]
    images = [root / row.image for rows in videos.values() for row in rows]
    info = DatasetInfo(
        source=source_name(root, ADAPTER),
        world="real",
        labels=labels,
        licence=licence_of(root, licence),
        citation=citation or "",
        keywords=tuple(sorted({s.keyword for some in sentences.values() for s in some if s.keyword})),
        generator={
            "adapter": ADAPTER,
            "version": VERSION,
            "ms_per_frame": MS_PER_FRAME,
            "files": digest_of_files(root, [*tables, *images]),
        },
    )
    write_dataset(
        out,
        info,
        list(videos),
        lambda name: _bundle(root, info.source, name, videos[name], sentences.get(name, ())),
        progress=progress,
    )


def read_labels(root: Path) -> tuple[tuple[str, ...], dict[str, list[Row]]]:
    """The landmarks, and the rows of each video (PATIENT or PATIENT/VIDEO) in the order of time."""
    if not (root / LABELS).is_file():
        raise UserError(f"'{root}' has no {LABELS}: one row an image, as docs/own-data.md says{frames_first(root)}")
    table = CsvTable.read(root / LABELS, needs=("image",))
    labels = tuple(name for name in table.columns if name not in NOT_LANDMARKS)
    videos: dict[str, list[Row]] = defaultdict(list)
    seen: set[str] = set()
    for number, row in table.rows:
        where, parts = f"{table.where} line {number}", Path(row["image"]).parts
        image = "/".join(parts)
        if len(parts) not in (2, 3) or ".." in parts or Path(image).is_absolute() or not _is_file(root / image):
            raise UserError(f"{where}: `image` should name a file, PATIENT/NAME.jpg or PATIENT/VIDEO/NAME.jpg")
        if image in seen:
            raise UserError(f"{where}: the image of this row has a row already: keep one")
        seen.add(image)
        if wrong := [label for label in labels if row[label] not in VALUES]:
            raise UserError(f"{where}: column {wrong[0]!r} should hold 1, 0 or nothing")
        at = seconds(row.get("seconds", ""), where, "seconds")
        videos["/".join(parts[:-1])].append(
            Row(image, at, row.get("description") or None, tuple(VALUES[row[label]] for label in labels))
        )
    for name, rows in videos.items():
        timed = [row.at for row in rows if row.at is not None]
        if timed and len(timed) != len(rows):
            raise UserError(f"{table.where}: some images of '{name}' have seconds and some have none: give all or none")
        if len(set(timed)) != len(timed):
            raise UserError(f"{table.where}: two images of '{name}' have the same seconds: keep one")
        rows.sort(key=lambda row: (row.at or 0, natural(row.image)))
    return labels, {name: videos[name] for name in sorted(videos, key=natural)}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no name that a disk can have: a cell of another column, say
        return False


def read_report(root: Path, videos: dict[str, list[Row]]) -> dict[str, list[Sentence]]:
    """The sentences of each video, in the order of the table."""
    table = CsvTable.read(root / REPORT, needs=("patient", "sentence"))
    found: dict[str, list[Sentence]] = defaultdict(list)
    for number, row in table.rows:
        where = f"{table.where} line {number}"
        name = "/".join(part for part in (row["patient"], row.get("video", "")) if part)
        if name not in videos:
            own = [video for video in videos if video.startswith(f"{name}/")]
            if len(own) != 1:
                do = "name one of the patient's videos in a column `video`" if own else f"{LABELS} has no such patient"
                raise UserError(f"{where}: {do}")
            name = own[0]
        if not row["sentence"]:
            raise UserError(f"{where}: `sentence` is empty: fill it in, or remove the row")
        t0, t1 = (seconds(row.get(column, ""), where, column) for column in ("from", "to"))
        if (t0 is None) != (t1 is None) or (t0 is not None and t1 is not None and t1 <= t0):
            raise UserError(f"{where}: give `from` and `to` in seconds, `to` being later, or neither")
        place = len(found[name])
        found[name].append(Sentence(f"{name}/s{place:04d}", name, row["sentence"], row.get("keyword") or None, t0, t1))
    return found


def _bundle(root: Path, source: str, name: str, rows: Sequence[Row], sentences: Sequence[Sentence]) -> ProcedureBundle:
    video = f"{name}/video"
    times = [i * MS_PER_FRAME if row.at is None else row.at for i, row in enumerate(rows)]
    ends = [*times[1:], times[-1] + MS_PER_FRAME]
    activities, owner = [], []
    for (labels, description), some in itertools.groupby(
        range(len(rows)), key=lambda i: (rows[i].labels, rows[i].description)
    ):
        places = list(some)
        id = f"{video}/{places[0]:06d}"
        t0, t1 = times[places[0]], ends[places[-1]]
        activities.append(Activity(id, name, video, t0, t1, labels, description=description))
        owner += [id] * len(places)

    def frames() -> Iterator[Frame]:
        for row, at, activity in zip(rows, times, owner, strict=True):
            image, _ = read_as_jpeg(root / row.image)
            yield Frame(row.image, name, video, at, activity, True, image, row.labels, (None,) * len(row.labels))

    return ProcedureBundle(
        Procedure(id=name, patient=name.partition("/")[0], source=source),
        (Video(id=video, procedure=name),),
        tuple(activities),
        tuple(sentences),
        frames(),
    )
