"""The data doctor's look at the tables: ids, labels, windows, descriptions, keywords."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from vlm_jax.contract import IGNORE_LABEL, Activity
from vlm_jax.data.findings import Finding
from vlm_jax.data.joins import several_videos
from vlm_jax.data.store import Dataset
from vlm_jax.data.tables import check_unique, check_unique_uids
from vlm_jax.errors import UserError

_SIDES = re.compile(r"\b(?:left|right|bilateral|small|large|huge)\b", re.IGNORECASE)
_REGION = re.compile(r"^(?:left |right )?view of [^,.;]*", re.IGNORECASE)
"""Where the endoscope looks, as our descriptions begin: it may bear a landmark's name without the landmark in view."""
_NEGATIONS = re.compile(r"\b(?:no|without|absent)\b", re.IGNORECASE)


def row_findings(dataset: Dataset) -> Iterator[Finding]:
    """All findings in the tables and in the frames' columns."""
    checks = (tables, orphans, labels, fractions, windows, frame_times, descriptions, sentences, keywords, prevalence)
    for check in checks:
        yield from check(dataset)


def tables(dataset: Dataset) -> Iterator[Finding]:
    """Tables that are no longer what was written, and ids that occur twice."""
    for file in dataset.changed:
        message = "is not what was written: build the data set again, unless you changed it yourself"
        yield Finding("warning", "table", file, message)
    try:
        check_unique(dataset.tables)
        check_unique_uids(dataset.frames.uid.tolist())
    except UserError as error:
        yield Finding("error", "id", dataset.info.source, str(error))


def orphans(dataset: Dataset) -> Iterator[Finding]:
    """Ids that name a row that does not exist; procedures and activities that nothing belongs to."""
    tables, frames = dataset.tables, dataset.frames
    procedures = {row.id for row in tables.procedures}
    videos = {row.id: row.procedure for row in tables.videos}
    activities = {row.id for row in tables.activities}
    for row in (*tables.videos, *tables.activities, *tables.sentences):
        if row.procedure not in procedures:
            yield Finding("error", "orphan", row.id, f"names procedure '{row.procedure}', which does not exist")
    for row in tables.activities:
        if videos.get(row.video) != row.procedure:
            yield Finding("error", "orphan", row.id, f"names video '{row.video}', which its procedure does not have")
    columns = (frames.uid.tolist(), frames.procedure.tolist(), frames.video.tolist(), frames.activity.tolist())
    for uid, procedure, video, activity in zip(*columns, strict=True):
        if procedure not in procedures or videos.get(video) != procedure:
            yield Finding("error", "orphan", uid, f"names procedure '{procedure}' and video '{video}', not a pair")
        if activity and activity not in activities:
            yield Finding("error", "orphan", uid, f"names activity '{activity}', which does not exist")
    used = {*columns[1], *(row.procedure for row in tables.sentences)}
    for name in sorted(procedures - used):
        yield Finding("warning", "unused", name, "the procedure has neither frames nor sentences")
    for name in sorted(activities - set(columns[3])):
        yield Finding("warning", "unused", name, "the activity has no frames")


def labels(dataset: Dataset) -> Iterator[Finding]:
    """Labels other than 1, 0 and not known, and tuples of the wrong length."""
    n = len(dataset.info.labels)
    if len(set(dataset.info.labels)) != n:
        yield Finding("error", "label", dataset.info.source, "label names repeat")
    for row in dataset.tables.activities:
        if len(row.landmarks) != n or any(v not in (0, 1, None) for v in row.landmarks):
            yield Finding("error", "label", row.id, f"landmarks {row.landmarks}: expected {n} of 1, 0 or null")
    visible = dataset.frames.visible
    bad = (visible < IGNORE_LABEL) | (visible > 1)
    for i in np.flatnonzero(bad.any(axis=1)):
        yield Finding(
            "error", "label", str(dataset.frames.uid[i]), f"visible {visible[i].tolist()}: expected 1, 0 or -1"
        )


def fractions(dataset: Dataset) -> Iterator[Finding]:
    """Shares of the area outside 0-1, or at odds with the label beside them."""
    share, visible = dataset.frames.fractions, dataset.frames.visible
    known = ~np.isnan(share)
    value = np.where(known, share, 0)
    for i in np.flatnonzero((known & ((value < 0) | (value > 1))).any(axis=1)):
        yield Finding("error", "fraction", str(dataset.frames.uid[i]), "a share of the area outside 0-1")
    for i in np.flatnonzero((known & (value == 0) & (visible == 1)).any(axis=1)):
        yield Finding("warning", "fraction", str(dataset.frames.uid[i]), "a landmark is visible with no area at all")


def windows(dataset: Dataset) -> Iterator[Finding]:
    """Activities that end before they start, overlap, or stand out of order within their video."""
    by_video: dict[str, list[Activity]] = defaultdict(list)
    for row in dataset.tables.activities:
        by_video[row.video].append(row)
        if row.t1 <= row.t0:
            yield Finding("error", "window", row.id, f"ends at {row.t1} ms, not after its start at {row.t0} ms")
    for rows in by_video.values():
        for earlier, later in itertools.pairwise(rows):
            if later.t0 < earlier.t0:
                yield Finding("error", "window", later.id, f"starts before '{earlier.id}', which precedes it")
            elif later.t0 < earlier.t1:
                yield Finding("error", "window", later.id, f"overlaps '{earlier.id}' by {earlier.t1 - later.t0} ms")


def frame_times(dataset: Dataset) -> Iterator[Finding]:
    """Frames outside the window of their activity, or out of order within their video."""
    frames = dataset.frames
    window = {row.id: (row.t0, row.t1) for row in dataset.tables.activities}
    last: dict[str, int] = {}
    columns = (frames.uid.tolist(), frames.video.tolist(), frames.activity.tolist(), frames.pts_ms.tolist())
    for uid, video, activity, pts in zip(*columns, strict=True):
        t0, t1 = window.get(activity, (pts, pts + 1))
        if not t0 <= pts < t1:
            yield Finding("error", "window", uid, f"at {pts} ms lies outside its activity '{activity}' ({t0}-{t1} ms)")
        if pts <= last.get(video, pts - 1):
            yield Finding("warning", "order", uid, f"at {pts} ms is not later than the frame before it in its video")
        last[video] = pts


def plain(text: str) -> str:
    """For finding names in texts: small letters, `_` of a table's columns (`middle_nasal_concha`) a space."""
    return text.lower().replace("_", " ")


def named_labels(text: str, names: Sequence[str]) -> set[int]:
    """Which of `names` a text names; a name within a longer one that is named there does not count."""
    found, rest = set[int](), plain(text)
    for i in sorted(range(len(names)), key=lambda i: -len(names[i])):
        pattern = rf"\b{re.escape(plain(names[i]))}\b"
        if re.search(pattern, rest):
            found.add(i)
            rest = re.sub(pattern, " ", rest)
    return found


def descriptions(dataset: Dataset) -> Iterator[Finding]:
    """Descriptions that name a landmark which their activity's labels deny."""
    names = dataset.info.labels
    for row in dataset.tables.activities:
        if row.description is None:
            continue
        if not row.description.strip():
            yield Finding("error", "description", row.id, "is empty text: leave it null where it is not known")
        named = sorted(named_labels(_REGION.sub("", row.description), names))
        absent = [names[i] for i in named if row.landmarks[i : i + 1] == (0,)]
        if absent:
            yield Finding("warning", "description", row.id, f"names {', '.join(absent)}, which its labels deny")


def sentences(dataset: Dataset) -> Iterator[Finding]:
    """Empty sentences, windows of evidence that end before they start, and windows in nobody knows which video."""
    ambiguous = several_videos(dataset.tables)
    for row in dataset.tables.sentences:
        if row.t0 is not None and row.procedure in ambiguous:
            message = "has a window, but its procedure has several videos: no frame gets it; build the data set again"
            yield Finding("error", "window", row.id, message)
        if not row.text.strip():
            yield Finding("error", "sentence", row.id, "has no text")
        if (row.t0 is None) != (row.t1 is None) or (row.t0 is not None and row.t1 is not None and row.t1 <= row.t0):
            yield Finding("error", "window", row.id, f"window {row.t0}-{row.t1}: expected both ends, in order, or none")


def keywords(dataset: Dataset) -> Iterator[Finding]:
    """Keywords outside the closed list, and codes in it that say what only the sentence may say.

    A negation tells the answer only where the list has its opposite, too: `no polyp` beside `polyp`. Alone, as in
    `no complications`, it is the name of a step.
    """
    known = set(dataset.info.keywords)
    for row in dataset.tables.sentences:
        if row.keyword is not None and row.keyword not in known:
            yield Finding("error", "keyword", row.id, f"keyword '{row.keyword}' is not in the closed list")
    plain = {_bare(code) for code in dataset.info.keywords}
    for code in dataset.info.keywords:
        spaced = code.replace("_", " ")
        negation = _NEGATIONS.search(spaced)
        opposite = negation is not None and _bare(_NEGATIONS.sub(" ", spaced)) in plain
        if word := _SIDES.search(spaced) or (negation if opposite else None):
            yield Finding("warning", "keyword", code, f"the code says '{word[0]}', which is the sentence's to say")


def _bare(code: str) -> str:
    """Lower-case words with one space between them."""
    return " ".join(code.lower().replace("_", " ").split())


def prevalence(dataset: Dataset) -> Iterator[Finding]:
    """Landmarks that can't be learned or scored, and too few patients to split by."""
    visible = dataset.frames.visible
    for i, name in enumerate(dataset.info.labels if len(visible) else ()):
        known = visible[:, i][visible[:, i] != IGNORE_LABEL]
        if not (known == 1).any() or not (known == 0).any():
            which = "no positive" if not (known == 1).any() else "no negative"
            yield Finding("warning", "prevalence", name, f"has {which} among {len(known)} frames: it can't be scored")
    patients = len({row.patient for row in dataset.tables.procedures})
    if patients < 3:
        message = f"{patients} patients: train, validation and test can't all have their own"
        yield Finding("warning", "few patients", dataset.info.source, message)
