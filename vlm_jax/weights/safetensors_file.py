"""safetensors files, read and written here: every declared size is checked, and the same arrays give the same bytes.

Layout: 8 bytes little-endian length of the header, the header as JSON {name: {dtype, shape, data_offsets}}, the data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vlm_jax.weights.arrays import BFLOAT16, as_numbers, count_of, read_json

METADATA = "__metadata__"
_MAX_HEADER = 100_000_000
_DTYPES = {
    "BOOL": np.dtype(bool), "U8": np.dtype("u1"), "I8": np.dtype("i1"), "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"), "U32": np.dtype("<u4"), "I32": np.dtype("<i4"), "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"), "F16": np.dtype("<f2"), "BF16": BFLOAT16, "F32": np.dtype("<f4"), "F64": np.dtype("<f8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn), "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def is_safetensors(head: bytes) -> bool:
    """By the first 9 bytes of a file."""
    return len(head) >= 9 and head[8:9] == b"{"


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """{name: array}; views of the file where the element type is the machine's own.

    Raises:
      ValueError and others of `arrays.FAULTS`: a header that is not what it should be, or data that it does not cover
        exactly.
    """
    with open(path, "rb") as file:
        size = path.stat().st_size
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(size - 8, _MAX_HEADER):
            raise ValueError(f"its header claims {length:,} bytes of a file of {size:,}")
        header = read_json(file.read(length))
    start = 8 + length
    data = np.memmap(path, np.uint8, "r", start) if size > start else np.zeros(0, np.uint8)
    header.pop(METADATA, None)
    found: dict[str, np.ndarray] = {}
    at = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
        first, last = entry["data_offsets"]
        if first != at or last - first != count_of(shape) * dtype.itemsize or last > data.size:
            raise ValueError(f"{name!r} does not lie where its header says")
        at = last
        found[name] = as_numbers(_typed(data[first:last], dtype).reshape(shape))
    if at != data.size:
        raise ValueError(f"{data.size - at:,} bytes of data belong to no name")
    return {name: found[name] for name in header}


def _typed(raw: np.ndarray, dtype: np.dtype) -> np.ndarray:
    # A byte other than 0 and 1 is no bool that NumPy could be handed.
    return raw != 0 if dtype == np.bool_ else np.frombuffer(raw, dtype) if raw.size else np.zeros(0, dtype)


def dump_safetensors(arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Iterator[bytes]:
    """The file in pieces: names in order, header padded to a multiple of 8, so that nothing depends on the run.

    Args:
      arrays: {name: array}; read one at a time.
      metadata: strings for the header.

    Raises:
      KeyError: an element type that safetensors lacks.
    """
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))  # wide types first: all lie aligned
    at = 0
    for name in names:
        dtype = np.dtype(arrays[name].dtype)
        end = at + count_of(tuple(int(size) for size in arrays[name].shape)) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(arrays[name].shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for name in names:
        yield np.ascontiguousarray(arrays[name]).tobytes()
