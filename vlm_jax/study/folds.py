"""Folds by group: which groups train, validate and test in each, written as list files that every run reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from vlm_jax.config.schema import DataConfig
from vlm_jax.config.study import StudyConfig
from vlm_jax.data.files import write_bytes
from vlm_jax.data.records import LEVELS, SourceRecords, build_records
from vlm_jax.data.split_rules import read_list
from vlm_jax.data.splits import choose_level, split_groups
from vlm_jax.data.store import open_dataset
from vlm_jax.errors import UserError

Fold = tuple[tuple[str, str], ...]
"""(source, list file) of each source."""
SPLIT_SEED = 0
"""Folds do not depend on the seeds of training: seeds are averaged over on the same folds."""


def source_records(paths: tuple[str, ...]) -> dict[str, list[SourceRecords]]:
    """{source: its data sets' records}."""
    found: dict[str, list[SourceRecords]] = {}
    for path in paths:
        records = build_records(open_dataset(path), DataConfig())
        found.setdefault(records.info.source, []).append(records)
    return found


def group_sizes(study: StudyConfig, parts: list[SourceRecords]) -> Counter[str]:
    """{group: records}, at the level that the study's runs split by.

    Raises:
      UserError: the source has neither patients nor procedures to keep apart.
    """
    sizes: Counter[str] = Counter()
    for records in parts:
        level, _ = choose_level(records, study.data.group_by)
        if level == LEVELS[-1]:
            raise UserError(
                f"{records.info.source} has only {level}s to split by: a study needs patients or procedures"
            )
        sizes.update(records.groups(level).tolist())
    return sizes


Lists = dict[str, dict[str, list[str]]]
"""Of one fold: {source: {split: groups}}."""


def fold_lists(study: StudyConfig, paths: tuple[str, ...]) -> list[Lists]:
    """Which groups train, validate and test in each fold: drawn, or as the given files say."""
    given = [read_list(name, key="fold_files", apart=False) for name in study.fold_files]
    found: list[Lists] = [{} for _ in range(len(given) or study.folds)]
    sized = {source: group_sizes(study, parts) for source, parts in source_records(paths).items()}
    _check_known(study, given, {group for sizes in sized.values() for group in sizes})
    for source, sizes in sized.items():
        for i, fold in enumerate(found):
            fold[source] = _given(given[i], sizes) if given else _drawn(study, sizes, i, source)
    return found


def write_folds(lists: Sequence[Lists], folder: Path) -> tuple[Fold, ...]:
    """Writes the list files, the same bytes each time."""
    found: list[Fold] = []
    for i, fold in enumerate(lists):
        files = {source: folder / f"{source}-fold{i}.json" for source in fold}
        for source, file in files.items():
            content = (json.dumps(fold[source], indent=1) + "\n").encode()
            if not file.is_file() or file.read_bytes() != content:
                folder.mkdir(parents=True, exist_ok=True)
                write_bytes(file, content)
        found.append(tuple((source, str(file)) for source, file in files.items()))
    return tuple(found)


def _check_known(study: StudyConfig, given: Sequence[Mapping[str, Sequence[str]]], known: Collection[str]) -> None:
    for name, lists in zip(study.fold_files, given, strict=True):
        strangers = [group for ids in lists.values() for group in ids if group not in known]
        if strangers:
            raise UserError(f"fold_files: '{name}' names '{strangers[0]}', which no data set has: correct or remove it")


def _given(lists: Mapping[str, Sequence[str]], sizes: Counter[str]) -> dict[str, list[str]]:
    """A given fold with what it leaves out as training: what leaks is found by `check_leaks`, with the names."""
    named = {group for ids in lists.values() for group in ids}
    out = {split: [g for g in lists.get(split, []) if g in sizes] for split in ("train", "validation", "test")}
    out["train"] += [group for group in sorted(sizes) if group not in named]
    if not out["validation"]:
        out["train"], out["validation"] = out["train"][:-1], out["train"][-1:]
    return out


def _drawn(study: StudyConfig, sizes: Counter[str], fold: int, source: str) -> dict[str, list[str]]:
    rule = f"kfold:{study.folds}:{fold}"
    records = [group for group in sorted(sizes) for _ in range(sizes[group])]
    assigned, cut = split_groups(
        records, rule, validation_fraction=study.data.validation_fraction, seed=SPLIT_SEED, what=f"groups of {source}"
    )
    if cut:
        raise UserError(
            f"{source} has {len(sizes)} groups: a study needs three at least, to train, validate and test on"
        )
    return {split: sorted(g for g, s in assigned.items() if s == split) for split in ("train", "validation", "test")}
