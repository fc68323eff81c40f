"""What a study's runs were begun on: the data's fingerprints and the folds, kept so that finished runs are of the same.

A study that was begun before this was kept takes what is there now.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from vlm_jax.data.files import read_json, to_json, write_bytes
from vlm_jax.data.store import open_dataset
from vlm_jax.errors import UserError
from vlm_jax.study.folds import Lists

KEPT = "data.json"
"""In the folder of a variant's folds."""


def identity(paths: Sequence[str], lists: Sequence[Lists]) -> dict[str, object]:
    """{data: fingerprints in the order of the paths, folds: sha256 of who trains, validates and tests}."""
    folds = hashlib.sha256(json.dumps(lists, sort_keys=True).encode()).hexdigest()
    return {"data": [open_dataset(path).fingerprint for path in paths], "folds": folds}


def keep_identity(paths: Sequence[str], lists: Sequence[Lists], folder: Path, runs: Path) -> None:
    """Writes down what the runs are of, or compares with it; before the list files change under runs at work.

    Args:
      paths: data sets. lists: the folds. folder: of the folds. runs: there from the first run on.

    Raises:
      UserError: runs were begun on other data or other folds.
    """
    now, file = identity(paths, lists), folder / KEPT
    then = read_json(file) if runs.is_dir() and file.is_file() else now
    if then["data"] != now["data"]:
        raise UserError(
            f"the data of {', '.join(paths)} are not those that the runs in '{runs}' were begun on: put them back, or "
            "give another --workdir"
        )
    if then["folds"] != now["folds"]:
        raise UserError(
            f"the folds are not those that the runs in '{runs}' were begun on: put the fold_files back, or give "
            "another --workdir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(file, to_json(now))
