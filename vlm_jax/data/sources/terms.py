"""Under which terms a source may be used: what the user says, else what lies beside the files."""

from __future__ import annotations

from pathlib import Path


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
