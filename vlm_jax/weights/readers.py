"""`read_weights`: the arrays of a file from anywhere, by its content and not by its name; nothing in it is executed."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlm_jax.errors import UserError
from vlm_jax.weights.archive import Archive
from vlm_jax.weights.arrays import FAULTS, read_json
from vlm_jax.weights.npz_file import is_npz, read_npz
from vlm_jax.weights.safetensors_file import is_safetensors, read_safetensors
from vlm_jax.weights.torch_file import LEGACY_MAGIC, Contents, read_torch_legacy, read_torch_zip

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
FILES = ("model.safetensors", "params.safetensors", "pytorch_model.bin")
"""What stands for a whole directory, in this order."""

_EXPECTED = "expected safetensors, .npz or a file of torch.save with a state_dict"
_KNOWN = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (Keras)",
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"<": "a web page, not the file that was to be downloaded",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: fetch it with git lfs pull",
    b"\x80": "a Python pickle of unknown make, which is not read",
}


@dataclass(frozen=True)
class WeightsFile:
    """What was read.

    Attributes:
      arrays: {dotted key as in the file: array}, bfloat16, float16 and float8 as float32.
      skipped: (key, why) of what the file holds beside arrays.
      sha256: of the file; of `name digest` lines where there are several.
    """

    arrays: Mapping[str, np.ndarray]
    skipped: tuple[tuple[str, str], ...]
    sha256: str


def read_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """Reads one file, or the directory of a Hugging Face model (one file or an index with its shards).

    Raises:
      UserError: nothing there, an unknown format, or a damaged or hostile file; one line that names it.
    """
    given = Path(path)
    if given.is_dir():
        names = [name for name in (*INDEXES, *FILES) if (given / name).is_file()]
        if not names:
            raise UserError(f"'{given}' holds none of {', '.join((*FILES, *INDEXES))}: name the file of weights")
        given = given / names[0]
    if not given.is_file():
        raise UserError(f"no file '{given}': {_EXPECTED}")
    try:
        return _read_index(given) if given.name.endswith(".index.json") else _read_one(given)
    except UserError as error:
        said = str(error)
        raise type(error)(said if said.startswith("'") else f"'{given}': {said}") from error
    except PermissionError:
        raise
    except FAULTS as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"'{given}' is damaged or was not written as such a file is: {why}; get it again") from error


def _read_one(path: Path) -> WeightsFile:
    contents = _contents(path)
    if not contents.arrays:
        raise UserError(f"no array in it; {_EXPECTED}")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return WeightsFile(contents.arrays, tuple(contents.skipped), digest)


def _contents(path: Path) -> Contents:
    with open(path, "rb") as file:
        head = file.read(64)
    if not head:
        raise UserError(f"empty; {_EXPECTED}")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) or (head[:1] != b"{" and zipfile.is_zipfile(path)):
        with Archive(path) as archive:
            return Contents(read_npz(archive)) if is_npz(archive) else read_torch_zip(archive)
    if head.startswith(LEGACY_MAGIC):
        return read_torch_legacy(path)
    if is_safetensors(head):
        return Contents(read_safetensors(path))
    known = next((what for magic, what in _KNOWN.items() if head.startswith(magic)), "no weights file that is known")
    raise UserError(f"{known}; {_EXPECTED}")


def _read_index(path: Path) -> WeightsFile:
    """All shards that an index names; together they must hold exactly the arrays that it lists."""
    weight_map = read_json(path.read_bytes())["weight_map"]
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        if Path(shard).name != shard or shard.endswith(".index.json"):
            raise UserError(f"its shard {shard[:80]!r} is no plain file name: shards lie beside the index")
        if not path.with_name(shard).is_file():
            raise UserError(f"its shard {shard!r} is not beside it: get all of them")
    arrays: dict[str, np.ndarray] = {}
    skipped: list[tuple[str, str]] = []
    lines = []
    for shard in shards:
        one = read_weights(path.with_name(shard))
        listed = {name for name, where in weight_map.items() if where == shard}
        if odd := sorted(listed ^ one.arrays.keys()):
            raise UserError(f"{odd[0]!r} is in the index or in {shard!r}, but not in both")
        arrays.update(one.arrays)
        skipped += one.skipped
        lines.append(f"{shard} {one.sha256}\n")
    return WeightsFile(arrays, tuple(skipped), hashlib.sha256("".join(lines).encode()).hexdigest())
