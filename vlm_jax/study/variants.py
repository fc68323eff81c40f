"""The data of a study: given data sets, or simulated ones, one for each variant of the simulator's settings.

A variant is a null world, say, or another level of what text and image say of one another; the table's column `world`
is what its data set says of itself. Each is a study of its own, of the same systems on the same kind of folds.
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
from vlm_jax.study.folds import Fold, make_folds
from vlm_jax.study.leaks import check_leaks
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
      UserError: a data set that can't be used, a setting that the simulator does not have, a fold that leaks.
    """
    if study.data.path:
        return (_variant(study, workdir, GIVEN, study.data.path, {}),)
    found = []
    for text in study.variants or (NORMAL,):
        settings = {} if text == NORMAL else simulator_settings(text)
        path = workdir / "data" / slug(text)
        simulate(study, path, settings)
        found.append(_variant(study, workdir, text, (str(path),), settings))
    return tuple(found)


def _variant(study: StudyConfig, workdir: Path, name: str, paths: tuple[str, ...], settings: dict[str, Any]) -> Variant:
    folds = make_folds(study, paths, workdir / "folds" / slug(name))
    check_leaks(study, paths, folds, workdir / "folds" / slug(name))
    return Variant(name, tuple(paths), folds, worlds_of(paths), settings)


def worlds_of(paths: tuple[str, ...]) -> dict[str, str]:
    """{source: `real`, `simulated`, or `simulated` and what sets its world apart}, as each data set says of itself."""
    infos = [open_dataset(path).info for path in paths]
    return {info.source: info.world for info in infos}


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
    config = SimulatorConfig(**{**dataclasses.asdict(study.simulate), **settings})
    ids = procedure_ids(config)
    write_dataset(path, dataset_info(config), ids, lambda id: make_procedure(config, id), workers=cores())
