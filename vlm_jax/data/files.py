"""Files that are whole or not there: atomic writes, digests, and full disks in one line."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from vlm_jax.errors import EnvironmentFault, UserError

TEMPORARY = ".partial"
"""Suffix of a file that is being written; one found on opening is the trace of an interrupted run and is ignored."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXTS = tuple(os.strerror(code) for code in _FULL)


def local_path(path: str | os.PathLike[str], what: str = "directory") -> Path:
    """A local path, or a one-line refusal of a remote address (array_record shards are memory-mapped local files)."""
    text = os.fspath(path)
    if "://" in text:
        raise UserError(f"{what} '{text}' is remote: data sets are written and read locally; copy it to a local disk")
    return Path(text)


@contextlib.contextmanager
def disk_faults(
    directory: os.PathLike[str], again: str = "run the same command again; finished procedures are kept"
) -> Iterator[None]:
    """Turns what a disk answers (full, quota, no permission, a file in the way) into one line.

    `again` says what to do once there is room.

    array_record reports its write errors as RuntimeError with the system's text, hence the search by text.

    Raises:
      EnvironmentFault: the disk is full.
      UserError: the directory can't be written.
    """
    try:
        yield
    except PermissionError as error:
        raise UserError(f"no permission to write in '{directory}': choose another --out") from error
    except (NotADirectoryError, FileExistsError) as error:
        raise UserError(f"'{directory}' cannot be made: a part of its path is a file; choose another --out") from error
    except (OSError, RuntimeError) as error:
        full = getattr(error, "errno", None) in _FULL or any(text in str(error) for text in _FULL_TEXTS)
        if not full:
            raise
        raise EnvironmentFault(f"no space left on the disk of '{directory}': free some and {again}") from error


def digest_of_files(root: Path, paths: Iterable[Path]) -> str:
    """sha256 over names and contents of the input: one changed pixel of a mask is another data set.

    Raises:
      UserError: a file's name is not UTF-8, which no table could hold.
    """
    lines = []
    for path in sorted(paths):
        name = path.relative_to(root).as_posix()
        try:
            lines.append(f"{name} {sha256_file(path)}\n".encode())
        except UnicodeEncodeError:
            raise UserError(f"the file name {name!a} is not UTF-8: rename it, and run the same command again") from None
    return hashlib.sha256(b"".join(lines)).hexdigest()


def files_below(root: Path, wanted: Callable[[Path], bool] = lambda _: True) -> list[Path]:
    """The files in a folder and in all below it that are wanted, in the order of their paths.

    Links to folders are followed, each folder once. What begins with a full stop, and folders that begin with `@`, are
    left out: there systems and file servers keep their own copies (`._0001.jpg`, `@eaDir`).

    Raises:
      UserError: `root` is a file, or a folder cannot be read.
    """
    if root.is_file():
        raise UserError(f"'{root}' is a file, where a folder is expected{frames_first(root)}")

    def refuse(error: OSError) -> None:
        raise UserError(
            f"folder '{error.filename}' can't be read ({error.strerror}): change its permissions, or move it"
        )

    found: list[Path] = []
    seen = set[str]()
    for place, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] not in ".@")
        files = (Path(place, name) for name in names if name[0] != ".")
        found += [path for path in files if wanted(path) and path.is_file()]
    return sorted(found)


_VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".mpg", ".mpeg", ".m4v", ".wmv", ".webm", ".mts")


def frames_first(path: Path) -> str:
    """What to do with a video, or with a folder of some: ` (a video: ...)`; nothing where there is none."""
    found = files_below(path, lambda file: file.suffix.lower() in _VIDEOS) if path.is_dir() else [path]
    video = next((file for file in found if file.suffix.lower() in _VIDEOS), None)
    if video is None:
        return ""
    name = shlex.quote(video.stem)
    cut = f"mkdir -p frames/{name} && ffmpeg -i {shlex.quote(video.name)} -vf fps=5 -q:v 2 frames/{name}/%06d.jpg"
    return f" ({video.name} is a video: cut it into frames first, as `{cut}` does, and give the folder `frames`)"


_MACHINE = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.EMFILE, errno.ENFILE)


def machine_fault(error: Exception) -> bool:
    """Whether a file could not be read for a reason that is not the file's: a mount that went, too many open files."""
    return getattr(error, "errno", None) in _MACHINE or any(os.strerror(n) in str(error) for n in _MACHINE)


def text_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, with or without Windows' mark and line ends. JSON may hold what `splitlines` takes for
    the end of a line (U+2028)."""
    return path.read_text(encoding="utf-8-sig").split("\n")


def whole_text(text: str, where: str) -> str:
    """The text, which tables and tokenizers can hold; UserError where JSON escapes left half of a character in it."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(f"{where} holds half of a character (\\ud800 to \\udfff alone): mend the text")
    return text


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Makes the directory and holds it against other processes until the block ends (`hold`).

    Raises:
      UserError: another process holds it.
    """
    if directory.is_file():  # the caller says what is wrong with that
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    try:
        handle = hold(directory)
    except BlockingIOError:
        raise UserError(
            f"another process is writing '{directory}': wait until it has ended, or choose another --out"
        ) from None
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


LOCK = ".lock"
NETWORK_DISKS = ("nfs", "nfs4", "cifs", "smb3", "beegfs", "lustre", "gpfs", "ceph", "glusterfs", "fuse.glusterfs", "9p")


def hold(directory: Path) -> int | None:
    """A handle that holds a directory against other processes until it is closed; None where the disk has no locks.

    An advisory lock (flock) of the directory itself: nothing is written, nothing is left behind by a process that is
    killed. A network disk locks directories on each machine by itself, if at all: there it is a file `.lock` in it.

    Raises:
      BlockingIOError: another process holds it.
      OSError: there is no such directory.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    if disk_kind(directory) in NETWORK_DISKS:
        os.close(handle)
        handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:  # a disk without locks
        os.close(handle)
        return None
    return handle


def disk_kind(path: Path) -> str:
    """The kind of the file system that a path lies on, as the table of mounts calls it; "" where there is none."""
    found, longest = "", -1
    place = os.path.realpath(path)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            mount, _, after = line.partition(" - ")
            point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), mount.split(" ")[4])
            inside = place == point or place.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= longest:  # of two at one place the later hides the earlier
                found, longest = after.split(" ")[0], len(point)
    return found


def sync_directory(directory: Path) -> None:
    """Makes renames in `directory` survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(temporary: Path, final: Path) -> None:
    """Flushes a finished temporary file to the disk and gives it its name in one step."""
    with open(temporary, "rb+") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, final)
    sync_directory(final.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a whole file or nothing."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        temporary.write_bytes(content)
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def to_json(value: Any, indent: int | None = None) -> bytes:
    """UTF-8 JSON, the same bytes for the same value (key order as given)."""
    return (json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent) + "\n").encode()


def read_json(path: Path) -> Any:
    """The content of a JSON file; UserError naming the file if it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' is not valid JSON ({error}): build the data set again") from error


def sha256_file(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
