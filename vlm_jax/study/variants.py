"""The data of a study: given data sets, or simulated ones, one for each variant of the simulator's settings.

A variant is a null world, say, or another level of what text and image say of one another; the table's column `world`
is what its data set says of itself, and the settings that it does not say. Each is a study of its own, of the same
systems on the same kind of folds.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_jax.config.study import StudyConfig
from vlm_jax.config.values import parse, suggest
from vlm_jax.data.store import open_dataset, write_dataset
from vlm_jax.errors import UserError
from vlm_jax.parallel.runtime import cores
from vlm_jax.simulator import SimulatorConfig, dataset_info, make_procedure, procedure_ids
from vlm_jax.study.ceilings import read_ceilings
from vlm_jax.study.folds import Fold, fold_lists, write_folds
from vlm_jax.study.leaks import check_leaks
from vlm_jax.study.same_data import keep_identity
from vlm_jax.study.systems import slug

GIVEN, NORMAL = "data", "normal"


@dataclass(frozen=True)
class Variant:
    """One world of the study.

    Attributes:
      name: `data` for given data sets, `normal` for the simulator as it is, else the variant's settings.
      paths: its data sets. folds: of each fold, (source, list file) pairs.
      worlds: {source: what the column `world` says}.
      settings: of the simulator, that make it another world.
    """

    name: str
    paths: tuple[str, ...]
    folds: tuple[Fold, ...]
    worlds: dict[str, str]
    settings: dict[str, Any]


def variants_of(study: StudyConfig, workdir: Path) -> tuple[Variant, ...]:
    """All variants, their data made and their folds checked for leaks.

    Raises:
      UserError: a data set that can't be used, a setting that the simulator does not have, ceilings of another world, a
        fold that leaks.
    """
    if study.data.path:
        return (_variant(study, workdir, GIVEN, study.data.path, {}),)
    found: list[Variant] = []
    for text, settings in _told_apart(study).items():
        path = workdir / "data" / slug(text)
        simulate(study, path, settings)
        found.append(_variant(study, workdir, text, (str(path),), settings))
    return tuple(found)


def _told_apart(study: StudyConfig) -> dict[str, dict[str, Any]]:
    """{variant: settings}; UserError where two are called the same in tables."""
    found: dict[str, dict[str, Any]] = {}
    called: dict[tuple[str, ...], str] = {}
    for text in study.variants or (NORMAL,):
        settings = {} if text == NORMAL else simulator_settings(text)
        world = (*_config(study, settings).peculiarities, *sorted(unsaid(study, settings)))
        if world in called:
            raise UserError(f"config key 'variants': {called[world]} and {text} are one world in tables; keep one")
        called[world], found[text] = text, settings
    return found


def _variant(study: StudyConfig, workdir: Path, name: str, paths: tuple[str, ...], settings: dict[str, Any]) -> Variant:
    read_ceilings(paths)  # those of another world are refused before hours of training, not after
    folder, lists = workdir / "folds" / slug(name), fold_lists(study, paths)
    keep_identity(paths, lists, folder, workdir / "runs" / slug(name))
    folds = write_folds(lists, folder)
    check_leaks(study, paths, lists, folder)
    return Variant(name, tuple(paths), folds, worlds_of(paths, unsaid(study, settings)), settings)


def worlds_of(paths: tuple[str, ...], more: tuple[str, ...]) -> dict[str, str]:
    """{source: `real`, `simulated`, or `simulated` and what sets its world apart}, as each data set says of itself.

    Args:
      more: what a data set does not say and tables must, lest they take two variants for one world.
    """
    infos = [open_dataset(path).info for path in paths]
    return {info.source: ", ".join((info.world, *more)) for info in infos}


def unsaid(study: StudyConfig, settings: dict[str, Any]) -> tuple[str, ...]:
    """`blood 0.9` of each of a variant's settings that makes another world without another name."""
    config, found = _config(study, settings), []
    for key, value in settings.items():
        without = _config(study, {k: v for k, v in settings.items() if k != key})
        if without != config and without.peculiarities == config.peculiarities:
            found.append(f"{key.replace('_', ' ')} {value}")
    return tuple(found)


def _config(study: StudyConfig, settings: dict[str, Any]) -> SimulatorConfig:
    return SimulatorConfig(**{**dataclasses.asdict(study.simulate), **settings})


def simulator_settings(text: str) -> dict[str, Any]:
    """{setting: value} of `SETTING=VALUE[+SETTING=VALUE]`, typed as the simulator has them.

    Raises:
      UserError: a setting that this simulator does not have.
    """
    known = {f.name: f for f in dataclasses.fields(SimulatorConfig)}
    found: dict[str, Any] = {}
    for part in text.split("+"):
        key, equals, raw = part.partition("=")
        if not equals or key not in known:
            raise UserError(
                f"config key 'variants': expected SETTING=VALUE of the simulator or {NORMAL}, got {part!r}"
                f"{suggest(key, known)}; it has {', '.join(known)}"
            )
        default = getattr(SimulatorConfig(), key)
        try:
            found[key] = parse(key, raw, type(default))
        except UserError:
            raise UserError(f"config key 'variants': {key} is a {type(default).__name__}, got {raw!r}") from None
    return found


def simulate(study: StudyConfig, path: Path, settings: dict[str, Any]) -> None:
    """Writes the data set, or finishes it, or finds it finished: `write_dataset` knows which."""
    config = _config(study, settings)
    ids = procedure_ids(config)
    write_dataset(path, dataset_info(config), ids, lambda id: make_procedure(config, id), workers=cores())
