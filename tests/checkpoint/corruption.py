"""Ways in which a disk, a copy or a person damages a checkpoint, drawn by a seed and undone afterwards."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

Undo = Callable[[], None]


def _files(step: Path) -> list[Path]:
    return sorted(path for path in step.rglob("*") if path.is_file())


def _full(rng: random.Random, step: Path) -> Path:
    return rng.choice([path for path in _files(step) if path.stat().st_size])


def _overwrite(path: Path, data: bytes) -> Undo:
    before = path.read_bytes()
    assert before != data
    path.write_bytes(data)
    return lambda: path.write_bytes(before) and None


def flip(rng: random.Random, step: Path, _: Path) -> Undo:
    """One byte becomes another."""
    path = _full(rng, step)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= rng.randint(1, 255)
    return _overwrite(path, bytes(data))


def truncate(rng: random.Random, step: Path, _: Path) -> Undo:
    """The end of a file is lost."""
    path = _full(rng, step)
    data = path.read_bytes()
    return _overwrite(path, data[: rng.randrange(len(data))])


def zeros(rng: random.Random, step: Path, _: Path) -> Undo:
    """A stretch of a file comes back as zeros (other bytes where it was zeros)."""
    path = _full(rng, step)
    data = path.read_bytes()
    begin = rng.randrange(len(data))
    length = min(rng.randint(1, 4096), len(data) - begin)
    new = data[:begin] + bytes(length) + data[begin + length :]
    return _overwrite(path, new if new != data else data[:begin] + b"\1" * length + data[begin + length :])


def append(rng: random.Random, step: Path, _: Path) -> Undo:
    """A file is longer than it was."""
    path = rng.choice(_files(step))
    return _overwrite(path, path.read_bytes() + rng.randbytes(rng.randint(1, 64)))


def delete(rng: random.Random, step: Path, _: Path) -> Undo:
    """A file is gone."""
    path = rng.choice(_files(step))
    before = path.read_bytes()
    path.unlink()
    return lambda: path.write_bytes(before) and None


def stray(rng: random.Random, step: Path, _: Path) -> Undo:
    """A file that was never written lies among the others."""
    path = rng.choice(_files(step)).parent / f"stray{rng.randrange(10**6)}"
    path.write_bytes(rng.randbytes(8))
    return path.unlink


def swap_inside(rng: random.Random, step: Path, _: Path) -> Undo:
    """Two files of a step have changed places."""
    return _swap(rng, _files(step), _files(step))


def swap_across(rng: random.Random, step: Path, other: Path) -> Undo:
    """A file of a step is that of another step."""
    theirs = {path.relative_to(other): path.read_bytes() for path in _files(other)}
    names = [p for p in _files(step) if theirs.get(p.relative_to(step), p.read_bytes()) != p.read_bytes()]
    path = rng.choice(names)
    return _overwrite(path, theirs[path.relative_to(step)])


def _swap(rng: random.Random, first: list[Path], second: list[Path]) -> Undo:
    while True:
        a, b = rng.choice(first), rng.choice(second)
        before = a.read_bytes(), b.read_bytes()
        if before[0] != before[1]:
            break
    a.write_bytes(before[1])
    b.write_bytes(before[0])

    def undo() -> None:
        a.write_bytes(before[0])
        b.write_bytes(before[1])

    return undo


def another_step(rng: random.Random, step: Path, other: Path) -> Undo:
    """The whole of another step under this step's name."""
    del rng
    kept = step.with_name(step.name + ".kept")
    step.rename(kept)
    shutil.copytree(other, step)

    def undo() -> None:
        shutil.rmtree(step)
        kept.rename(step)

    return undo


KINDS = (flip, flip, flip, truncate, zeros, append, delete, delete, stray, swap_inside, swap_across, another_step)


@contextlib.contextmanager
def damaged(rng: random.Random, step: Path, other: Path) -> Iterator[str]:
    """Damages `step` in one way; yields its name, and mends it."""
    kind = rng.choice(KINDS)
    undo = kind(rng, step, other)
    try:
        yield kind.__name__
    finally:
        undo()
