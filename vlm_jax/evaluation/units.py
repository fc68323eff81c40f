"""Units of scoring: a frame for labels, an activity for descriptions, a sentence for reports.

Text targets repeat over the frames of their window in training. They are scored once: on the middle frame of the
activity, or of the sentence's window of evidence, or on the sentence's own record where the source has no frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vlm_jax.contract import END, TEXT_TASKS, Record
from vlm_jax.tasks import TASK_TABLE

END_WORD = "end"
"""How the end of a procedure, a token and no text, is written for the text metrics."""

UNIT_NAMES = {
    "landmarks": "frame",
    "places": "frame",
    "describe": "activity",
    "anticipate": "activity",
    "report": "sentence",
}


def counted(n: int, unit: str) -> str:
    """`1 activity`, `2 activities`."""
    return f"{n} {unit if n == 1 else unit.removesuffix('y') + 'ies' if unit.endswith('y') else unit + 's'}"


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing to score.

    Attributes:
      row: of the record table.
      record: without the bytes of its image.
      key: names the activity or sentence (the frame's own uid for landmarks).
      chain: what is rolled out together: the video of an activity, the report of a sentence.
      order: place in the chain, from 0: by time in a video, as written in a report.
    """

    row: int
    record: Record
    key: str
    chain: tuple[str, ...] = ()
    order: int = 0


def find_units(
    rows: Iterable[int], record_of: Callable[[int], Record], place_of: Callable[[int], int] = int
) -> dict[str, list[Unit]]:
    """Units by task, in the order of rows (within a procedure: in time).

    Args:
      rows: rows of the record table.
      record_of: gives the record of a row, without its image's bytes (b"" where there is one).
      place_of: gives the place of a row's sentence in the report; by default reports are in the order of rows.
    """
    records = [(row, record_of(row)) for row in rows]
    units = {"landmarks": [Unit(row, r, r.uid) for row, r in records if TASK_TABLE["landmarks"].carried(r)]}
    for task in TEXT_TASKS:
        units[task] = _middles(task, records, place_of if task == "report" else int)
    return units


def _middles(task: str, records: list[tuple[int, Record]], place_of: Callable[[int], int]) -> list[Unit]:
    """One unit an activity or a sentence: the middle of the rows that carry it."""
    windows: dict[tuple[str, str, str], list[tuple[int, Record]]] = {}
    for row, record in records:
        if TASK_TABLE[task].carried(record):
            key = (record.sentence if task == "report" else record.activity) or record.uid
            windows.setdefault((record.source, record.procedure, key), []).append((row, record))
    units: list[Unit] = []
    chains: dict[tuple[str, ...], list[int]] = {}
    for (source, procedure, key), members in windows.items():
        row, record = members[len(members) // 2]
        chain = (source, procedure) if task == "report" else (source, procedure, record.video or "")
        chains.setdefault(chain, []).append(place_of(row))
        units.append(Unit(row, record, key, chain))
    orders = {chain: {place: i for i, place in enumerate(sorted(places))} for chain, places in chains.items()}
    return [dataclasses.replace(u, order=orders[u.chain][place_of(u.row)]) for u in units]


def activity_key(record: Record) -> str:
    """Names the record's activity among all sources; a frame outside of any is its own."""
    return "\t".join((record.source, record.procedure, record.activity or record.uid))


def references(task: str, record: Record) -> tuple[str, ...]:
    """The true text of the task and its further wordings, as the metrics read them."""
    text = TASK_TABLE[task].target(record) or ""
    more = record.references if task == "report" else ()
    return (as_scored(text), *more)


def as_scored(text: str) -> str:
    """The end of a procedure as a word, any other text as it is."""
    return END_WORD if text == END else text


def prompt_text(task: str, record: Record) -> str:
    """The gold text the prompt ends with (previous, current description, context); empty where unknown."""
    return TASK_TABLE[task].prompt(record)[-1] or ""
