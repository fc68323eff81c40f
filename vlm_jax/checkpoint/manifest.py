"""MANIFEST.json: the sha256 of every file of a checkpoint, written last. A step without it is incomplete."""

from __future__ import annotations

import hashlib
import json

from etils import epath

NAME = "MANIFEST.json"
_CHUNK = 1 << 20


def _sha256(path: epath.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _files(directory: epath.Path) -> dict[str, epath.Path]:
    """{path relative to the directory: file}, the manifest itself left out, in a fixed order."""
    found: dict[str, epath.Path] = {}
    stack = [directory]
    while stack:
        for child in sorted(stack.pop().iterdir()):
            if child.is_dir():
                stack.append(child)
            elif child.name != NAME:
                found[str(child.relative_to(directory))] = child
    return dict(sorted(found.items()))


def write(directory: epath.Path) -> None:
    """Writes the manifest of a finished step directory, atomically."""
    entries = {name: _sha256(path) for name, path in _files(directory).items()}
    partial = directory / (NAME + ".part")
    partial.write_text(json.dumps({"sha256": entries}, indent=1, sort_keys=True))
    partial.replace(directory / NAME)


def exists(directory: epath.Path) -> bool:
    """Whether the step was written to its end."""
    return (directory / NAME).exists()


def problems(directory: epath.Path) -> list[str]:
    """One line for each file that is missing, added or changed; empty where the step is whole."""
    if not exists(directory):
        return [f"{NAME} is missing: the step was not written to its end"]
    try:
        recorded = json.loads((directory / NAME).read_text())["sha256"]
    except (ValueError, KeyError, TypeError):
        return [f"{NAME} can't be read"]
    present = {name: path for name, path in _files(directory).items() if name != NAME + ".part"}
    lines = [f"{name} is missing" for name in recorded.keys() - present.keys()]
    lines += [f"{name} is not in {NAME}" for name in present.keys() - recorded.keys()]
    lines += [f"{n} has changed" for n in recorded.keys() & present.keys() if _sha256(present[n]) != recorded[n]]
    return sorted(lines)
