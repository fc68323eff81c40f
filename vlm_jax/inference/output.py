"""Predictions as JSON lines: all of them or none, in a file or on stdout; and progress on stderr."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from vlm_jax.errors import EnvironmentFault, UserError

T = TypeVar("T")
TABLES = (".csv", ".tsv", ".xls", ".xlsx", ".parquet", ".ods")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def json_lines(out: str | None) -> Iterator[Callable[[Any], None]]:
    """Gives a function that writes one JSON object a line; `out` appears when the block has ended without an error.

    Args:
      out: a file, made with its folders; a device (/dev/stdout) is written at the end; None = stdout, likewise.

    Raises:
      UserError: `out` is a folder, or may not be written.
      EnvironmentFault: the disk is full.
    """
    path, name = (None, "stdout") if out is None else (Path(out), out)
    # /dev/stdout is a link, and a regular file where the shell redirects to one: links are written through.
    replaces = path is not None and not path.is_symlink() and (path.is_file() or not path.exists())
    with _disk_answers(name):
        handle = _temporary(path, replaces)

    def write(row: Any) -> None:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        with _disk_answers(name):
            handle.write(line.encode(errors="replace").decode())  # a file name need not be UTF-8, and has ? then

    try:
        yield write
        with _disk_answers(name):
            handle.flush()
            if path is not None and replaces:
                _publish(handle, path)
            else:
                _copy(handle, path)
    finally:
        Path(handle.name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what could not be flushed was reported already
            handle.close()


def _temporary(path: Path | None, replaces: bool) -> Any:
    if path is not None and path.suffix.lower() in TABLES:
        raise UserError(
            f"--out {path}: predictions are JSON lines, not a table; give {path.with_suffix('.jsonl').name} "
            "(docs/inference.md makes a table of them)"
        )
    if path is not None and path.is_dir():
        raise UserError(f"--out {path} is a folder; give a file, as in --out {path / 'predictions.jsonl'}")
    folder = path.parent if path is not None and replaces else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return tempfile.NamedTemporaryFile("w+", encoding="utf-8", dir=folder, suffix=".partial", delete=False)


def _publish(handle: Any, path: Path) -> None:
    os.fsync(handle.fileno())
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(handle.name, 0o666 & ~mask)  # temporary files are private; the result is an ordinary file
    os.replace(handle.name, path)


def _copy(handle: Any, path: Path | None) -> None:
    handle.seek(0)
    if path is None:
        shutil.copyfileobj(handle, sys.stdout)
        sys.stdout.flush()
        return
    with path.open("w", encoding="utf-8") as device:
        shutil.copyfileobj(handle, device)


@contextlib.contextmanager
def _disk_answers(name: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise UserError(f"no permission to write {name}; choose another --out") from error
    except (NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{name} cannot be made: a part of its path is a file; choose another --out") from error
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise EnvironmentFault(
            f"the disk is full: {name} was not written; make room and run the same command"
        ) from error


def track(items: Iterable[T], total: int, what: str, stream: TextIO | None = None) -> Iterator[T]:
    """Passes items through, with a bar on a terminal and a plain line every tenth of the way elsewhere."""
    target: TextIO = stream or sys.stderr
    terminal = target.isatty()
    every = max(1, -(-total // 10))
    with tqdm(total=total, desc=what, file=target, disable=not terminal) as bar:
        for n, item in enumerate(items, 1):
            yield item
            bar.update()
            if not terminal and (n % every == 0 or n == total):
                print(f"{what} {n}/{total}", file=target, flush=True)
