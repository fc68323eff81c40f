"""npz files: arrays of numbers only. The header of an entry is matched, never evaluated."""

from __future__ import annotations

import re
import struct

import numpy as np

from vlm_jax.errors import UserError
from vlm_jax.weights.archive import Archive
from vlm_jax.weights.arrays import as_numbers, count_of

_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|=][biuf][1248])', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>[0-9, ]{0,400})\), \}[ ]*\n?"
)


def is_npz(archive: Archive) -> bool:
    """Whether every entry is called an array."""
    return bool(archive.entries) and all(name.endswith(".npy") for name in archive.entries)


def read_npz(archive: Archive) -> dict[str, np.ndarray]:
    """{name: array}.

    Raises:
      UserError: an array of objects, which NumPy would unpickle.
      ValueError and others of `arrays.FAULTS`: damaged.
    """
    return {name.removesuffix(".npy"): _array(name, archive.read(name)) for name in archive.entries}


def _array(name: str, raw: bytes) -> np.ndarray:
    version = raw[6:7]
    if raw[:6] != _MAGIC or version not in (b"\x01", b"\x02", b"\x03"):
        raise ValueError(f"the entry {name!r} is no array")
    form, start = ("<H", 10) if version == b"\x01" else ("<I", 12)
    (length,) = struct.unpack_from(form, raw, 8)
    header = raw[start : start + length]
    match = _HEADER.fullmatch(header)
    if match is None or len(header) != length:
        what = header[:60].decode("latin-1")
        raise UserError(
            f"the entry {name!r} holds something else than plain numbers ({what!r}...): objects are never unpickled"
        )
    dtype = np.dtype(match["dtype"].decode())
    shape = tuple(int(size) for size in match["shape"].replace(b" ", b"").split(b",") if size)
    if len(raw) - start - length != count_of(shape) * dtype.itemsize:
        raise ValueError(f"{name!r} does not have the size that its shape {shape} asks for")
    data = np.frombuffer(raw, np.uint8 if dtype == np.bool_ else dtype, offset=start + length)
    data = data != 0 if dtype == np.bool_ else data
    return as_numbers(data.reshape(shape, order="F" if match["fortran"] == b"True" else "C"))
