"""One finding of the data doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and where.

    Attributes:
      level: error (training would stumble or learn wrong) or warning (worth a look).
      code: the kind, one or two words; findings of one kind are listed together.
      where: the id of the row, or the name of the file.
      message: what is wrong with it.
    """

    level: Literal["error", "warning"]
    code: str
    where: str
    message: str
