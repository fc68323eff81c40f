"""What a source is called, and under which terms it may be used: as the user says, else as lies beside the files."""

from __future__ import annotations

import re
from pathlib import Path


def source_name(root: Path, otherwise: str) -> str:
    """The folder's name, as far as a source may be called so."""
    return re.sub(r"\W+", "_", root.resolve().name).strip("_") or otherwise


def licence_of(root: Path, said: str | None) -> str:
    """What the user said, else the first line of a LICENSE file in the folder, else nothing: never a guess."""
    if said is not None:
        return said
    for path in sorted(root.glob("LICEN[CS]E*")):
        if not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in lines if line.strip()), "")
    return ""
