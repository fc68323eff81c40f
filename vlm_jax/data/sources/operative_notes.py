"""Adapter: operative notes as JSON lines ({"note_ids": [...], "text": "..."}), real report language without images.

A procedure is a note, its patient a cluster of near-duplicate notes, so that no split tears a template apart. Each
sentence of the operative part becomes a row, in order, with the code of its step for a keyword. Times, landmarks and
grounding in images are not known and stay empty. Placeholders of the de-identification stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm_jax.contract import DatasetInfo, Procedure, ProcedureBundle, Sentence
from vlm_jax.data.files import local_path, text_lines, whole_text
from vlm_jax.data.sources import near_duplicates, note_text, step_codes
from vlm_jax.data.sources.terms import licence_of
from vlm_jax.data.store import write_dataset
from vlm_jax.errors import UserError

SOURCE = "operative_notes"
VERSION = 3  # 1 read no line breaks, 2 no sentence that begins with an umlaut


@dataclass(frozen=True, slots=True)
class Note:
    """One note: `id` is the first of its ids, `sentences` those of its operative part."""

    id: str
    text: str
    sentences: tuple[str, ...]


def build(
    input_dir: str | Path,
    out: str | Path,
    *,
    files: Sequence[str] | None = None,
    licence: str | None = None,
    citation: str | None = None,
    progress: bool = True,
) -> None:
    """Writes the data set into `out`; the same call again finishes a build that was cut off.

    Args:
      input_dir: a folder of .jsonl files, or one such file. A note in several files counts once.
      out: the data set's directory.
      files: the names of the files to read, where not all in the folder.
      licence, citation: as in `BuildFn`.
      progress: say on stderr how far it is.

    Raises:
      UserError: a file is missing or is not as described; the message names file and line.
      EnvironmentFault: the disk is full.
    """
    read = read_notes(_files(local_path(input_dir, "input"), files))
    notes = [note for note in read if note.sentences]
    if notes and progress and len(notes) < len(read):
        print(f"{len(read) - len(notes)} of {len(read)} notes have no operative part: left out", file=sys.stderr)
    if not notes:
        raise UserError(f"'{input_dir}' has no note with an operative part (PROCEDURE, OPERATION or DESCRIPTION)")
    first = near_duplicates.clusters([" ".join(note.sentences) for note in notes])
    patients = {note.id: f"cluster_{notes[i].id}" for note, i in zip(notes, first, strict=True)}
    by_id = {note.id: note for note in notes}
    info = DatasetInfo(
        source=SOURCE,
        world="real",
        licence=licence_of(local_path(input_dir, "input"), licence),
        citation=citation or "",
        keywords=step_codes.KEYWORDS,
        generator={
            "adapter": SOURCE,
            "version": VERSION,
            "shingle": near_duplicates.SHINGLE,
            "similarity": near_duplicates.THRESHOLD,
            "texts": hashlib.sha256("\0".join(note.text for note in notes).encode()).hexdigest(),
        },
    )
    write_dataset(out, info, list(by_id), lambda id: _bundle(by_id[id], patients[id]), progress=progress)


def _files(source: Path, names: Sequence[str] | None) -> list[Path]:
    if source.is_file():
        return [source]
    found = [source / name for name in names] if names else sorted(source.glob("*.jsonl"))
    if not found:
        raise UserError(f"'{source}' has no .jsonl files: expected one JSON object a line with note_ids and text")
    for path in found:
        if not path.is_file():
            raise UserError(f"'{path}' does not exist")
    return found


def read_notes(paths: Sequence[Path]) -> list[Note]:
    """The notes of all files, ordered by id; the same text or id counts once."""
    by_text: dict[str, str] = {}
    for path in paths:
        try:
            lines = text_lines(path)
        except UnicodeDecodeError as error:
            raise UserError(f"'{path}' is not UTF-8 text ({error.reason}): save it as UTF-8") from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                id, text = _parse(line, f"'{path}' line {number}")
                by_text[text] = min(id, by_text.get(text, id))
    notes, seen = [], set[str]()
    for text, id in sorted(by_text.items(), key=lambda item: (item[1], item[0])):
        if id in seen:
            raise UserError(f"note id '{id}' stands for two different texts: give each note an id of its own")
        seen.add(id)
        notes.append(Note(id, text, tuple(note_text.operative_sentences(text))))
    return notes


def _parse(line: str, where: str) -> tuple[str, str]:
    """(id, text) of one line."""
    form = '{"note_ids": ["case-001"], "text": "..."}'
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not JSON: expected one object a line, {form} (docs/own-data.md)") from error
    if lacking := [key for key in ("note_ids", "text") if not isinstance(row, dict) or key not in row]:
        raise UserError(f"{where} lacks {' and '.join(lacking)}: expected one object a line, {form}")
    ids, text = row["note_ids"], row["text"]
    id = ids[0] if isinstance(ids, list) and ids else None
    if not isinstance(id, str) or not isinstance(text, str):
        raise UserError(f'{where}: note_ids should be a list of strings, as ["case-001"], and text a string')
    return whole_text(id, where), whole_text(text, where)


def _bundle(note: Note, patient: str) -> ProcedureBundle:
    rows = tuple(
        Sentence(
            id=f"{note.id}/{number:03d}",
            procedure=note.id,
            text=sentence,
            keyword=step_codes.step_code(sentence),
            grounding="none",
        )
        for number, sentence in enumerate(note.sentences)
    )
    return ProcedureBundle(procedure=Procedure(id=note.id, patient=patient, source=SOURCE), sentences=rows)
