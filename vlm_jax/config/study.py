"""The typed schema of a study: which systems are compared, on which data, how often. Field comments are its reference.

A run's own settings stay in `config.schema`; a study names config files of runs and what it changes in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vlm_jax.config.load import Overrides, build, read_values
from vlm_jax.config.rules import BOUNDS as RUN_BOUNDS
from vlm_jax.config.rules import GROUPS, LISTS
from vlm_jax.config.values import suggest
from vlm_jax.errors import UserError

FILLER = "template_filler"
"""`NAME=template_filler:PARENT`: the system that fills templates with the landmarks that PARENT predicts."""


@dataclass(frozen=True)
class StudyData:
    path: tuple[str, ...] = ()  # data sets; empty = simulated into WORKDIR/data by the settings below
    group_by: str = ""  # as of a run: patient or procedure; empty = the strictest the source has
    validation_fraction: float = 0.25  # share of the groups that are not in test


@dataclass(frozen=True)
class Simulate:
    procedures: int = 12  # of as many patients
    activities_per_procedure: float = 144.0  # on average
    frames_per_procedure: int = 300  # on average
    image_size: int = 96  # pixels, square
    seed: int = 0  # of the simulator


@dataclass(frozen=True)
class StudyConfig:
    name: str = "study"  # what the report is called
    table: tuple[str, ...] = ()  # NAME=FILE:ARG, or NAME=template_filler:PARENT: the systems that there are
    systems: tuple[str, ...] = ()  # names of the table to run; empty = all
    settings: tuple[str, ...] = ()  # KEY=VALUE of every run, NAME:KEY=VALUE of one system; the last one counts
    data: StudyData = field(default_factory=StudyData)
    simulate: Simulate = field(default_factory=Simulate)
    variants: tuple[str, ...] = ()  # SETTING=VALUE[+SETTING=VALUE] of the simulator, a study each; empty = as it is
    folds: int = 3  # of the groups; each group is tested on once
    fold_files: tuple[str, ...] = ()  # list files of data.split, one a fold, in place of `folds`
    seeds: tuple[int, ...] = (0,)  # of training; scores are averaged over them
    trials: tuple[float, ...] = (1.0,)  # factors of each system's learning rate that are tried; validation loss chooses
    contexts: tuple[str, ...] = ("gold", "rolled_out", "empty")  # what prompts hold: docs/reference/metrics.md
    bootstrap: int = 2000  # resamples of whole groups; under 280 no contrast could have a verdict
    coverage: int = 200  # repeats of the coverage simulation; 0 = none
    note_similarity: float = 0.5  # share of common word shingles from which notes of two groups are near-duplicates
    quick_compiler: bool = False  # XLA leaves out its optimisations: for runs of a few steps, which are all compilation
    keep_checkpoints: bool = True  # false = a system's checkpoints are deleted once it is scored


BOUNDS = {
    "folds": (2, 1000),
    "bootstrap": (280, 10**6),
    "coverage": (0, 10**5),
    "note_similarity": (0.05, 1.0),
}
# A p-value is twice a tail, a tail at least 1 / (bootstrap + 1), and Holm takes the smallest of seven times seven.
_REASONS = {"bootstrap": ": with fewer no contrast could have a verdict (p under 0.05 after Holm's correction)"}


def load_study(spec: str, overrides: Overrides = ()) -> StudyConfig:
    """The study that `--config FILE.py:ARG --config.key=value ...` asks for.

    Raises:
      UserError: a missing file, an unknown preset, key or system, a value that cannot be.
    """
    study = build(StudyConfig, read_values(spec, overrides, StudyConfig))
    _check(study)
    return study


def rows_of(study: StudyConfig) -> dict[str, str]:
    """{name: config of its run, or template_filler:PARENT} of the table."""
    rows: dict[str, str] = {}
    for row in study.table:
        name, equals, spec = row.partition("=")
        if not equals or not name or not spec:
            raise UserError(f"config key 'table' holds NAME=FILE:ARG, got {row!r}")
        if name in rows:
            raise UserError(f"config key 'table' names {name!r} twice; keep one")
        rows[name] = spec
    return rows


def names_of(study: StudyConfig) -> tuple[str, ...]:
    """The systems to run, in the order of the table."""
    rows = rows_of(study)
    for name in study.systems:
        if name not in rows:
            raise UserError(f"config key 'systems': unknown {name!r}{suggest(name, rows)}; the table has {_some(rows)}")
    return tuple(name for name in rows if not study.systems or name in study.systems)


def _some(names: dict[str, str]) -> str:
    return ", ".join(names) or "no rows"


def _check(study: StudyConfig) -> None:
    names = names_of(study)
    if not names:
        raise UserError("config key 'table' is empty: a study needs systems, as NAME=FILE:ARG")
    for name, spec in rows_of(study).items():
        parent = spec.removeprefix(FILLER + ":")
        if name in names and parent != spec and parent not in names:
            raise UserError(f"system {name!r} fills templates with what {parent!r} predicts: add it to 'systems'")
    for key, (low, high) in BOUNDS.items():
        if not low <= getattr(study, key) <= high:
            why = _REASONS.get(key, "")
            raise UserError(f"config key {key!r} must be from {low} to {high}, got {getattr(study, key)}{why}")
    if not study.seeds or len(set(study.seeds)) != len(study.seeds) or min(study.seeds) < 0:
        raise UserError(f"config key 'seeds' needs one or more different numbers from 0 on, got {study.seeds}")
    if not study.trials or len(set(study.trials)) != len(study.trials) or min(study.trials) <= 0:
        raise UserError(f"config key 'trials' needs one or more different factors above 0, got {study.trials}")
    if not study.contexts:
        raise UserError("config key 'contexts' is empty: a study scores gold at least")
    low, high = RUN_BOUNDS["data.validation_fraction"]
    if not low <= study.data.validation_fraction <= high:
        given = study.data.validation_fraction
        raise UserError(f"config key 'data.validation_fraction' must be from {low} to {high}, got {given}")
    if not study.data.path and study.folds > study.simulate.procedures:
        raise UserError(
            f"config key 'folds' ({study.folds}) must be at most simulate.procedures ({study.simulate.procedures})"
        )
    for context in study.contexts:
        if context not in LISTS["eval.contexts"]:
            raise UserError(f"config key 'contexts': unknown {context!r}{suggest(context, LISTS['eval.contexts'])}")
    if study.data.group_by and study.data.group_by not in GROUPS[:2]:
        raise UserError(
            f"config key 'data.group_by' of a study must be patient or procedure, got {study.data.group_by!r}"
        )
    if study.variants and study.data.path:
        raise UserError("config keys 'variants' and 'data.path' exclude one another: variants are simulated")
