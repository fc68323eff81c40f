"""MANIFEST.json: the sha256 of every file of a checkpoint, written last. A step without it is incomplete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

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


def rewrite(directory: epath.Path, name: str, text: str) -> None:
    """Replaces one small file of a finished step and its digest.

    In between, the manifest takes the old file and the new one: whenever this is cut off, the step is whole.
    """
    entries = _read(directory)
    digest = hashlib.sha256(text.encode()).hexdigest()
    _replace(directory / NAME, _text(entries | {name: sorted({*_either(entries.get(name, [])), digest})}))
    _replace(directory / name, text)
    _replace(directory / NAME, _text(entries | {name: digest}))


def _either(entry: str | list[str]) -> list[str]:
    return [entry] if isinstance(entry, str) else entry


def _read(directory: epath.Path) -> dict[str, str | list[str]]:
    """{relative path: digest, or the digests either of which is right}.

    Raises:
      ValueError: not a manifest, or not byte for byte as it was written.
    """
    text = (directory / NAME).read_text()
    entries = json.loads(text)["sha256"]
    if not isinstance(entries, dict) or text != _text(entries):
        raise ValueError(f"{NAME} has changed")
    return entries


def _text(digests: Mapping[str, str | list[str]]) -> str:
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
        recorded = _read(directory)
    except (ValueError, KeyError, TypeError):
        return [f"{NAME} can't be read"]
    present = _files(directory)
    lines = [f"{name} is missing" for name in recorded.keys() - present.keys()]
    lines += [f"{name} is not in {NAME}" for name in present.keys() - recorded.keys()]
    lines += _changed(recorded, {name: present[name] for name in recorded.keys() & present.keys()})
    return sorted(lines)


def _changed(recorded: Mapping[str, str | list[str]], files: Mapping[str, epath.Path]) -> list[str]:
    return [f"{n} has changed" for n, path in files.items() if _sha256(path) not in _either(recorded[n])]


def problems_of(directory: epath.Path, names: Iterable[str]) -> list[str]:
    """As `problems`, of some files only."""
    try:
        recorded = _read(directory)
        files = {name: directory / name for name in names}
        if unknown := files.keys() - recorded.keys():
            return [f"{name} is not in {NAME}" for name in sorted(unknown)]
        return _changed(recorded, files)
    except OSError as error:
        return [f"{getattr(error, 'filename', NAME)} is missing"]
    except (ValueError, KeyError, TypeError):
        return [f"{NAME} can't be read"]
