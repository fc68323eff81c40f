"""Tables as people save them: CSV in UTF-8 with or without Excel's mark, with commas or semicolons."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm_jax.data.files import whole_text
from vlm_jax.errors import UserError


@dataclass(frozen=True)
class CsvTable:
    """A table with a head.

    Attributes:
      where: the quoted path, for messages.
      columns: their names, in order.
      rows: (line of the file, {column: text without spaces around it}).
    """

    where: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]

    @classmethod
    def read(cls, path: Path, needs: Sequence[str]) -> CsvTable:
        """Reads a whole table.

        Raises:
          UserError: it is not UTF-8, a column is missing, repeated or has no name, a row is longer or shorter than the
            head, a quote is not closed, or there is none. No message repeats a cell: it may be text of a patient.
        """
        where = f"'{path}'"
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            raise UserError(f"{where} can't be read: save the table as CSV UTF-8") from None
        head = text.partition("\n")[0]
        delimiter = ";" if head.count(";") > head.count(",") else ","
        # Strict: a quote that is not closed would take the rows after it for its text.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows, columns = [], None
        try:
            for cells in reader:
                cells = [whole_text(cell.strip(), where) for cell in cells]
                if not any(cells):
                    continue
                if columns is None:
                    columns = cls._head(cells, needs, where)
                    continue
                if len(cells) != len(columns):
                    line = f"{where} line {reader.line_num}"
                    raise UserError(f"{line} has {len(cells)} cells, the head has {len(columns)}: mend the row")
                rows.append((reader.line_num, dict(zip(columns, cells, strict=True))))
        except csv.Error as error:
            raise UserError(
                f"{where} line {reader.line_num} is no CSV ({error}): save the table as CSV UTF-8"
            ) from None
        if not rows or columns is None:
            raise UserError(f"{where} has no row below its head")
        return cls(where, columns, tuple(rows))

    @staticmethod
    def _head(cells: Sequence[str], needs: Sequence[str], where: str) -> tuple[str, ...]:
        if lacking := [name for name in needs if name not in cells]:
            raise UserError(f"{where} has no column `{lacking[0]}`: the first line should name the columns")
        if len(set(cells)) != len(cells) or not all(cells):
            raise UserError(f"{where}: a column without a name, or two of one name: give each its own")
        return tuple(cells)


def seconds(text: str, where: str, column: str) -> int | None:
    """Milliseconds; None where the cell is empty."""
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise UserError(f"{where}: `{column}` should be seconds from the start of the video, 0 or more")
    return round(1000 * value)


def natural(name: str) -> list[tuple[int, int | str]]:
    """A key that puts 2.jpg before 10.jpg."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name)]
