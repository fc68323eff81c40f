"""Adapters: one file a source, one row a source in this table."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import Protocol, cast

from vlm_jax.errors import UserError


class BuildFn(Protocol):
    """Reads `input_dir` as its source lays it out and writes a data set into `out` (resumable).

    `licence` and `citation` are the user's words for the data set's card; without them an adapter says what lies beside
    the files, or nothing.
    """

    def __call__(
        self,
        input_dir: str | Path,
        out: str | Path,
        *,
        licence: str | None = None,
        citation: str | None = None,
        progress: bool = True,
    ) -> None: ...


SOURCES: dict[str, str] = {
    "vocalfolds": "vlm_jax.data.sources.vocalfolds:build",
    "operative_notes": "vlm_jax.data.sources.operative_notes:build",
    "labelled_frames": "vlm_jax.data.sources.labelled_frames:build",
    "unlabelled_frames": "vlm_jax.data.sources.unlabelled_frames:build",
}
"""Name -> `module:function` of type `BuildFn`; imported when asked for, so that one adapter's needs burden no other."""


def get_source(name: str) -> BuildFn:
    """The adapter of that name; UserError with a suggestion if there is none."""
    if name not in SOURCES:
        close = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise UserError(f"unknown source '{name}': {hint}known are {', '.join(sorted(SOURCES))}")
    module, function = SOURCES[name].split(":")
    return cast(BuildFn, getattr(importlib.import_module(module), function))
