"""What the predict command is given, images, folders and JSON lines, as requests."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from vlm_jax.data.files import files_below, frames_first, text_lines, whole_text
from vlm_jax.data.transforms import SUFFIXES, is_image
from vlm_jax.errors import UserError
from vlm_jax.inference.output import TABLES
from vlm_jax.inference.request import TEXTS, Request

_KEYS = ("image", "before", *TEXTS)
_JSON_TYPES = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
"""Names for values of the caller's, which may be text of a patient and are never repeated."""


def collect(inputs: Iterable[str], texts: Mapping[str, str | None]) -> list[Request]:
    """Requests for every INPUT, in the order given; a folder's images in the order of their paths.

    Args:
      inputs: image files, folders (searched with all below them), or .jsonl files with objects
        {image, before, keyword, context, previous, current}; their image paths count from the file's own folder.
      texts: {keyword, context, previous, current} for requests that do not say otherwise.

    Raises:
      UserError: something is missing, empty or not an image by its name; names it.
    """
    requests: list[Request] = []
    for given in inputs:
        requests += _expand(given)
    defaults = {name: text for name, text in texts.items() if text}
    return [dataclasses.replace(r, **{k: v for k, v in defaults.items() if getattr(r, k) is None}) for r in requests]


def _expand(given: str) -> list[Request]:
    if "://" in given:
        raise UserError(f"{given} is remote; images are read from local disks: copy it first")
    path = Path(given)
    if path.is_dir():
        found = files_below(path, is_image)
        if not found:
            where = f"({' '.join(SUFFIXES)}), nor do the folders below it"
            raise UserError(f"{given} holds no image {where}{frames_first(path)}")
        return [Request(p, str(p)) for p in found]
    if not path.exists():
        raise UserError(f"{given} does not exist; give an image, a folder of images or a .jsonl file")
    if path.suffix.lower() == ".jsonl":
        return _read_lines(path)
    if hint := frames_first(path):
        raise UserError(f"{given} is no image{hint}")
    if path.suffix.lower() in TABLES:
        raise UserError(f"{given} is a table; give a .jsonl, one object a line with keys {', '.join(_KEYS)}")
    return [Request(path, given)]


def _read_lines(path: Path) -> list[Request]:
    try:
        lines = text_lines(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text; expected one JSON object a line") from error
    requests = [_parse(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not requests:
        raise UserError(f"{path} is empty; expected one JSON object a line with keys {', '.join(_KEYS)}")
    return requests


def _parse(line: str, path: Path, number: int) -> Request:
    where = f"{path} line {number}"
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not JSON ({error}); expected an object with keys {', '.join(_KEYS)}") from error
    if not isinstance(row, dict) or not isinstance(row.get("image"), str):
        raise UserError(f'{where} has no "image"; expected an object with keys {", ".join(_KEYS)}')
    for key, value in row.items():
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            hint = f'; did you mean "{near[0]}"?' if near else f"; expected {', '.join(_KEYS)}"
            raise UserError(f'{where} has an unknown key "{key}"{hint}')
        if key == "before":
            if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                raise UserError(f'{where}: "before" is no list of paths; expected ["frame1.jpg", ...] in order of time')
            whole_text("".join(value), f'{where}: "before"')
            continue
        if value is not None and not isinstance(value, str):
            raise UserError(f'{where}: "{key}" is {_JSON_TYPES[type(value)]}; expected a string or null')
        whole_text(value or "", f'{where}: "{key}"')
    image = path.parent / row["image"]
    before = tuple(path.parent / name for name in row.get("before") or ())
    return Request(image, str(image), **{name: row.get(name) for name in TEXTS}, before=before)
