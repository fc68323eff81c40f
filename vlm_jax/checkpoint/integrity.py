"""Whether checkpoints are what was written: every file against its sha256, before a weight of it is used."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from etils import epath

from vlm_jax.checkpoint import manifest
from vlm_jax.checkpoint.meta import read_meta
from vlm_jax.errors import UserError

DAMAGED = ".damaged"
"""Suffix of a step that was set aside."""


@dataclass(frozen=True)
class Survey:
    """What is known of a checkpoints directory, newest step first, up to the first good one."""

    good: int | None
    damaged: dict[int, list[str]]


def problems(step_directory: epath.Path) -> list[str]:
    """One line for everything that is wrong with a step; empty where it is whole.

    A whole step under another step's number is wrong, too: data position and file name would contradict each other.
    """
    try:
        found = manifest.problems(step_directory)
        if found or not step_directory.name.isdigit():
            return found
        own = read_meta(step_directory).batches
    except (OSError, UserError) as error:
        return [f"can't be read ({error})"]
    return [] if own == int(step_directory.name) else [f"it is step {own} under the name of {step_directory.name}"]


def complete_steps(directory: epath.Path) -> list[int]:
    """Steps of a checkpoints directory that have their manifest, oldest first."""
    if not directory.exists():
        return []
    found = [child for child in directory.iterdir() if child.name.isdigit() and manifest.exists(child)]
    return sorted(int(child.name) for child in found)


def survey(directory: epath.Path) -> Survey:
    """Reads back the steps from the newest to the first that is whole."""
    damaged: dict[int, list[str]] = {}
    for step in reversed(complete_steps(directory)):
        found = problems(directory / str(step))
        if not found:
            return Survey(step, damaged)
        damaged[step] = found
    return Survey(None, damaged)


def describe(step: int, found: list[str]) -> str:
    """`step 3 is damaged: FILE has changed (and 2 more)`."""
    return f"step {step} is damaged: {shortened(found)}"


def shortened(found: list[str]) -> str:
    """The first problem, and how many more there are."""
    return found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")


def set_aside(directory: epath.Path, step: int) -> epath.Path:
    """Renames a damaged step, so that nothing takes it for one; returns its new place."""
    n = 0
    while (place := directory / f"{step}{DAMAGED}{n or ''}").exists():
        n += 1
    return (directory / str(step)).rename(place)


def warn(line: str) -> None:
    """A line that nobody overlooks, on stderr."""
    print(f"WARNING: {line}", file=sys.stderr, flush=True)
