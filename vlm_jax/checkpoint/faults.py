"""A disk that is full, read-only or gone, as one line that says so and what to do."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from vlm_jax.errors import EnvironmentFault, is_out_of_memory

_SIGNS: tuple[tuple[tuple[int, ...], tuple[str, ...], str], ...] = (
    ((errno.ENOSPC,), ("No space left", "RESOURCE_EXHAUSTED"), "the disk is full"),
    ((errno.EDQUOT, errno.EFBIG), ("Disk quota exceeded", "File too large"), "a quota or file size limit is reached"),
    ((errno.EROFS,), ("Read-only file system",), "the disk is read-only"),
    ((errno.EACCES, errno.EPERM), ("Permission denied",), "writing is not permitted"),
    (
        (errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.ENODEV),
        ("Stale file handle", "Input/output error", "Transport endpoint is not connected", "No such device"),
        "the disk or its mount is gone",
    ),
)
"""(error numbers, words of tensorstore, which knows no numbers, what is said)."""


def disk_fault(error: BaseException) -> str | None:
    """What is wrong with the disk, anywhere in the chain of causes; None where it is not the disk."""
    seen: BaseException | None = error
    while seen is not None:
        if is_out_of_memory(seen):  # which tensorstore's word for a full disk is, too
            return None
        number = seen.errno if isinstance(seen, OSError) else None
        for numbers, words, what in _SIGNS:
            if number in numbers or any(word in str(seen) for word in words):
                return what
        seen = seen.__cause__ or seen.__context__
    return None


@contextlib.contextmanager
def disk_errors(doing: str, directory: object = None) -> Iterator[None]:
    """Turns what a failing disk raises inside into one EnvironmentFault; every other error passes.

    Args:
      doing: the head of the line, e.g. `saving step 3`.
      directory: an epath that must exist; where it has vanished meanwhile, that is what is said.
    """
    try:
        yield
    except EnvironmentFault:
        raise
    except Exception as error:  # by version, tensorstore and orbax raise ValueError, OSError or their own
        what = disk_fault(error)
        if what is None and directory is not None and not _there(directory):
            what = f"{directory} has vanished"
        if what is None:
            raise
        raise EnvironmentFault(
            f"{doing} failed: {what}. Earlier checkpoints are untouched; mend it and run the same command"
        ) from error


def _there(directory: object) -> bool:
    try:
        return bool(directory.exists())  # type: ignore[attr-defined]
    except OSError:
        return False
