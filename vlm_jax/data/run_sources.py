"""The data sets of a run, opened; what those of one source must have in common, and how often each label is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vlm_jax.config.parts import asks_for_places
from vlm_jax.config.schema import Config
from vlm_jax.contract import NO_REGIONS, DatasetInfo
from vlm_jax.data.files import local_path
from vlm_jax.data.records import SourceRecords
from vlm_jax.data.split_rules import SPLITS
from vlm_jax.data.splits import UNUSED, SourceSplit, choose_level
from vlm_jax.data.store import Dataset, open_dataset
from vlm_jax.errors import UserError

NOTHING = {
    "joined": "has no frame or sentence to learn from; build it again, or pre-train on it (configs/pretrain)",
    "frames": "has no frames that are assessable, and a masked autoencoder needs nothing else; leave it out",
    "texts": "has neither report sentences nor descriptions for a masked language model; leave it out",
}
"""Unit of a run's records -> what is said of a data set without one."""


def open_all(paths: Sequence[str]) -> list[Dataset]:
    """The data sets of `data.path`.

    Raises:
      UserError: one cannot be opened; where nothing is at its path any more, the line says how to name another.
    """
    for path in paths:
        if not local_path(path, "data set").exists():
            raise UserError(
                f"data.path: '{path}' does not exist; where the data was moved, name its place with "
                "--config.data.path=DIR, or with --data DIR for evaluate"
            )
    return [open_dataset(path) for path in paths]


def agreeing_sources(datasets: Sequence[Dataset]) -> dict[str, DatasetInfo]:
    """{source: info}; data sets of one source must agree on labels, world and keywords and share no procedure."""
    sources: dict[str, DatasetInfo] = {}
    procedures: set[tuple[str, str]] = set()
    for dataset in datasets:
        info = dataset.info
        first = sources.setdefault(info.source, info)
        for what in ("labels", "world", "keywords"):
            if getattr(first, what) != getattr(info, what):
                raise UserError(f"data.path: two data sets of source '{info.source}' have different {what}; give one")
        for procedure in dataset.tables.procedures:
            if (info.source, procedure.id) in procedures:
                raise UserError(
                    f"data.path: procedure '{procedure.id}' of source '{info.source}' is in two data sets, and could "
                    "stand in training and in test; give one of them"
                )
            procedures.add((info.source, procedure.id))
    return sources


def check_places(sources: Mapping[str, DatasetInfo], config: Config) -> None:
    """Refuses more landmarks than `Batch.regions` can tell apart, where the run marks their places."""
    n = sum(len(info.labels) for info in sources.values())
    if asks_for_places(config) and n >= NO_REGIONS:
        raise UserError(
            f"model.region_width: {n} landmarks, of which at most {NO_REGIONS - 1} have places; set it to 0"
        )


def unsplit(parts: Sequence[SourceRecords]) -> list[SourceSplit]:
    """No split: data that are scored whole, by another site's model. Grouped by the strictest column there is."""
    found = []
    for part in parts:
        level, _ = choose_level(part, "")
        found.append(SourceSplit(np.full(len(part), UNUSED, np.int8), part.groups(level), level, ()))
    return found


def label_counts(
    parts: Sequence[SourceRecords], splits: Sequence[SourceSplit], columns: Mapping[str, np.ndarray], n_labels: int
) -> tuple[np.ndarray, np.ndarray]:
    """(positives, negatives), each int64[n_labels], over the training records.

    Args:
      columns: source -> the place of each of its own labels, -1 where there is none.
    """
    positives, negatives = np.zeros(n_labels, np.int64), np.zeros(n_labels, np.int64)
    for part, split in zip(parts, splits, strict=True):
        rows = np.flatnonzero(split.codes == SPLITS.index("train"))
        if not len(rows) or not part.info.labels:
            continue
        values = np.stack([part.labels(int(i)) for i in rows])
        own = columns[part.info.source]
        known = own >= 0
        positives[own[known]] += (values == 1).sum(axis=0)[known]
        negatives[own[known]] += (values == 0).sum(axis=0)[known]
    return positives, negatives
