"""MANIFEST.json: the sha256 of every file of a checkpoint, written last. A step without it is incomplete."""

from __future__ import annotations

import hashlib
import json

from etils import epath

NAME = "MANIFEST.json"
_PART = ".part"
_CHUNK = 1 << 20


def _sha256(path: epath.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _files(directory: epath.Path) -> dict[str, epath.Path]:
    """{path relative to the directory: file}, the manifest and partial files left out, in a fixed order."""
    found: dict[str, epath.Path] = {}
    stack = [directory]
    while stack:
        for child in sorted(stack.pop().iterdir()):
            if child.is_dir():
                stack.append(child)
            elif child.name != NAME and not child.name.endswith(_PART):
                found[str(child.relative_to(directory))] = child
    return dict(sorted(found.items()))


def write(directory: epath.Path) -> None:
    """Writes the manifest of a finished step directory, atomically."""
    _replace(directory / NAME, _text({name: _sha256(path) for name, path in _files(directory).items()}))


def rewrite(directory: epath.Path, texts: dict[str, str]) -> None:
    """Replaces small files of a finished step, {relative path: text}, and their digests.

    The digests go first: ended in between, the step is still complete, and rewriting it once more mends it.
    """
    entries = json.loads((directory / NAME).read_text())["sha256"]
    new = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    _replace(directory / NAME, _text(entries | new))
    for name, text in texts.items():
        (directory / name).parent.mkdir(exist_ok=True)
        _replace(directory / name, text)


def _text(digests: dict[str, str]) -> str:
    return json.dumps({"sha256": digests}, indent=1, sort_keys=True)


def _replace(path: epath.Path, text: str) -> None:
    partial = path.parent / (path.name + _PART)
    partial.write_text(text)
    partial.replace(path)


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
    present = _files(directory)
    lines = [f"{name} is missing" for name in recorded.keys() - present.keys()]
    lines += [f"{name} is not in {NAME}" for name in present.keys() - recorded.keys()]
    lines += [f"{n} has changed" for n in recorded.keys() & present.keys() if _sha256(present[n]) != recorded[n]]
    return sorted(lines)
