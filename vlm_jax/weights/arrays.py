"""What every reader goes by: element types, faults of a damaged file, and limits checked before memory is taken."""

from __future__ import annotations

import json
import math
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from vlm_jax.errors import UserError

FAULTS = (
    ValueError, LookupError, TypeError, AttributeError, OverflowError, EOFError, RuntimeError, MemoryError, OSError,
    struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What parsing a damaged or hostile file may raise (RecursionError is a RuntimeError, a JSON error a ValueError)."""

MAX_RANK = 16
_EXPANSION = 16
_ALLOWANCE = 1 << 26


def count_of(shape: Sequence[Any]) -> int:
    """Number of elements; ValueError where a size is no whole number from 0 up, or there are too many of them."""
    if len(shape) > MAX_RANK or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"impossible shape {str(list(shape))[:80]}")
    return math.prod(shape)


def check_total(n_bytes: int, file_size: int) -> None:
    """Refuses arrays that take far more room than their file: a bomb, whatever the format.

    Raises:
      UserError: over 16 times the file and 64 MiB.
    """
    if n_bytes > _EXPANSION * file_size + _ALLOWANCE:
        raise UserError(f"{n_bytes:,} bytes of arrays in a file of {file_size:,}: it is made to fill the memory")


def as_numbers(array: np.ndarray) -> np.ndarray:
    """Half precision and smaller as float32, exactly; everything else as it is, in the machine's byte order."""
    if array.dtype == np.float16 or array.dtype.kind == "V" or array.dtype.name in _SMALL:
        return array.astype(np.float32)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


_SMALL = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def read_json(raw: bytes) -> Any:
    """JSON in which no key comes twice; ValueError otherwise."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            raise ValueError("a name is there twice")
        return table

    return json.loads(raw.decode("utf-8"), object_pairs_hook=once)
