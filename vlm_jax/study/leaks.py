"""What must not be: a group in two splits of a fold or tested twice, near-duplicates on both sides of a fold.

A study with a leak stops before anything is trained, and names what leaks.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vlm_jax.config.study import StudyConfig
from vlm_jax.data.files import write_bytes
from vlm_jax.data.lookalikes import SIDE, Lookalikes
from vlm_jax.data.progress import Progress
from vlm_jax.data.records import SourceRecords
from vlm_jax.data.sources.near_duplicates import similar_pairs
from vlm_jax.data.splits import choose_level
from vlm_jax.data.store import Dataset
from vlm_jax.data.transforms import decode_image
from vlm_jax.errors import EnvironmentFault, UserError
from vlm_jax.study.folds import Lists, source_records
from vlm_jax.study.same_data import identity

SHOWN = 5
DONE = "leaks-checked.json"


def check_leaks(study: StudyConfig, paths: Sequence[str], content: Sequence[Lists], folder: Path) -> None:
    """Looks every fold over; remembers in `folder` that it has, for the same data and the same folds.

    Raises:
      UserError: names the groups, frames or notes that leak.
    """
    about = {"group_by": study.data.group_by, "note_similarity": study.note_similarity}
    mark = {**identity(paths, content), **about}
    seen = folder / DONE
    for line in group_leaks(content):  # cheap: always
        raise UserError(line)
    if seen.is_file() and json.loads(seen.read_text()) == mark:
        return
    unread: list[str] = []
    for source, parts in source_records(tuple(paths)).items():
        splits = [fold[source] for fold in content]
        owner = owners(parts, study.data.group_by)
        for line in patient_leaks(source, parts, splits, owner):
            raise UserError(line)
        apart = _apart(splits)
        pairs = [*frame_pairs(parts, owner, unread), *note_pairs(parts, owner, study.note_similarity)]
        if leaks := [f"'{a}' and '{b}' ({what})" for a, b, groups, what in pairs if groups in apart]:
            more = f", and {len(leaks) - SHOWN} more" if len(leaks) > SHOWN else ""
            raise UserError(
                f"near-duplicates across folds of {source}: {'; '.join(leaks[:SHOWN])}{more}. Give both the same group "
                "(patient), or leave one out"
            )
    if unread:
        line = f"{len(unread)} frames could not be read and were not compared: `vlm-jax data check` names them"
        print(line, file=sys.stderr, flush=True)
        return  # the next call looks again
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(seen, (json.dumps(mark) + "\n").encode())


def owners(parts: Sequence[SourceRecords], group_by: str) -> dict[str, str]:
    """{procedure: the group that folds divide by}."""
    found: dict[str, str] = {}
    for records in parts:
        level, _ = choose_level(records, group_by)
        found |= {p.id: p.patient if level == "patient" else p.id for p in records.dataset.tables.procedures}
    return found


def patient_leaks(
    source: str, parts: Sequence[SourceRecords], splits: Sequence[dict[str, list[str]]], owner: dict[str, str]
) -> Iterator[str]:
    """One line a fold in which a patient stands in two splits, for the folds divide by less than patients."""
    for i, fold in enumerate(splits):
        split_of = {group: split for split, groups in fold.items() for group in groups}
        seen: dict[str, set[str]] = defaultdict(set)
        for procedure in (p for records in parts for p in records.dataset.tables.procedures):
            if procedure.patient and owner[procedure.id] in split_of:
                seen[procedure.patient].add(split_of[owner[procedure.id]])
        if twice := sorted(patient for patient, found in seen.items() if len(found) > 1):
            yield f"fold {i} leaks: patient {_names(twice)} of {source} in two splits; set data.group_by=patient"


def group_leaks(content: Sequence[Lists]) -> Iterator[str]:
    """One line a kind of leak: groups in two splits of one fold, groups that are tested on twice."""
    tested: dict[tuple[str, str], int] = {}
    for i, fold in enumerate(content):
        for source, splits in fold.items():
            owner: dict[str, str] = {}
            for split, groups in splits.items():
                twice = [g for g in groups if owner.setdefault(g, split) != split]
                if twice:
                    yield f"fold {i} leaks: {source} {_names(twice)} in both {owner[twice[0]]} and {split}; keep one"
            again = [g for g in splits["test"] if tested.setdefault((source, g), i) != i]
            if again:
                first = tested[source, again[0]]
                yield f"{source} {_names(again)} is tested on in folds {first} and {i}: pooled scores count it twice"


def _names(groups: Sequence[str]) -> str:
    more = f" and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
    return ", ".join(f"'{g}'" for g in groups[:SHOWN]) + more


def _apart(folds: Sequence[dict[str, list[str]]]) -> set[frozenset[str]]:
    """Pairs of groups that stand in different splits in some fold."""
    found: set[frozenset[str]] = set()
    for splits in folds:
        owner = {group: split for split, groups in splits.items() for group in groups}
        names = sorted(owner)
        found |= {frozenset((a, b)) for i, a in enumerate(names) for b in names[:i] if owner[a] != owner[b]}
    return found


Pair = tuple[str, str, frozenset[str], str]


def frame_pairs(parts: Sequence[SourceRecords], owner: dict[str, str], unread: list[str]) -> Iterator[Pair]:
    """Frames of two groups that show the same picture: every such pair, once for each frame of the later group.

    Frames that cannot be read are added to `unread`.
    """
    looks, uids = Lookalikes(), list[str]()
    for dataset in (records.dataset for records in parts):
        for i, thumbnail in _thumbnails(dataset, unread):
            looks.add(owner[str(dataset.frames.procedure[i])], len(uids), thumbnail)
            uids.append(str(dataset.frames.uid[i]))
    for group, same, later, key in looks.pairs():
        yield uids[same], uids[key], frozenset((group, later)), "frames"


def _thumbnails(dataset: Dataset, unread: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    """(row, uint8[36, 36, 3]) of the frames that any run would learn from and that can be read."""
    wanted = np.flatnonzero(dataset.frames.assessable).tolist()
    with Progress("thumbnails", 1, "frames") as bar:
        for i in wanted:
            bar.tick()
            uid = str(dataset.frames.uid[i])
            try:
                thumbnail = decode_image(dataset.read_image(i), SIDE, uid)
            except EnvironmentFault:
                raise
            except UserError:  # a broken image is the data doctor's to name
                unread.append(uid)
                continue
            yield i, thumbnail
        bar.step(f"{len(wanted)} frames of {dataset.info.source}")


def note_pairs(parts: Sequence[SourceRecords], owner: dict[str, str], threshold: float) -> Iterator[Pair]:
    """Reports of two groups that share much of their wording, beyond stock phrases."""
    reports: dict[str, list[str]] = {}
    for records in parts:
        for row in records.dataset.tables.sentences:
            reports.setdefault(row.procedure, []).append(row.text)
    names = list(reports)
    for i, j, share in similar_pairs([" ".join(reports[name]) for name in names], threshold):
        a, b = owner.get(names[i], names[i]), owner.get(names[j], names[j])
        if a != b:
            yield names[i], names[j], frozenset((a, b)), f"notes, {share:.0%} of the wording"
