"""The systems of a study: what each is called, what its runs are configured by, what they start from."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from vlm_jax.config.load import load_config
from vlm_jax.config.rules import get
from vlm_jax.config.schema import Config
from vlm_jax.config.study import FILLER, StudyConfig, names_of, rows_of
from vlm_jax.config.values import leaves
from vlm_jax.errors import UserError

EXTERNAL = ("endovit", "surgical_gpt")
"""Systems with published weights; without them they are an architecture, and are called so."""
COUNTED = ("hmm",)
"""Systems that are fitted by counting: there is no learning rate to try."""
TRIVIAL = "trivial"
DATA_ONLY = "configs/vlm.py:micro"
"""What opens the data where no model is built."""


@dataclass(frozen=True)
class StudySystem:
    """One row of the table.

    Attributes:
      name: in the study's configuration; also names its folder (`slug`).
      shown: in tables: `endovit_arch@tiny (random init)` where the published weights are absent.
      spec: FILE:ARG of its runs; empty for what is not trained (the template filler, the trivial scores).
      parent: the system whose landmarks it fills templates with.
      init: what its parts start from.
    """

    name: str
    shown: str
    spec: str = ""
    parent: str = ""
    init: str = ""

    @property
    def slug(self) -> str:
        return slug(self.name)

    @property
    def trained(self) -> bool:
        return bool(self.spec)


def slug(name: str) -> str:
    """A folder's name: letters, digits, `@`, `.`, `=`, `+` and `-` as they are."""
    return re.sub(r"[^\w@.=+-]+", "_", name)


def study_systems(study: StudyConfig) -> list[StudySystem]:
    """The chosen rows of the table, and the trivial scores, which are always among them.

    Raises:
      UserError: a configuration of a system that cannot be loaded.
    """
    rows = rows_of(study)
    found = []
    for name in names_of(study):
        kind, _, parent = rows[name].partition(":")
        if kind == FILLER:
            found.append(StudySystem(name, name, parent=parent, init="counts"))
            continue
        config = run_config(study, name, rows[name])
        init = started_from(config)
        found.append(StudySystem(name, shown_name(name, init), spec=rows[name], init=init))
    data_config(study)
    return [*found, StudySystem(TRIVIAL, TRIVIAL, init="counts")]


def shown_name(name: str, init: str) -> str:
    """`endovit@tiny` is that only with its weights; without them it is `endovit_arch@tiny (random init)`."""
    bare, at, size = name.partition("@")
    stem = bare.removesuffix("_arch")
    if stem not in EXTERNAL:
        return name
    return f"{stem}_arch{at}{size} (random init)" if init == "random" else f"{stem}{at}{size}"


def run_config(study: StudyConfig, name: str, spec: str) -> Config:
    """The configuration that all runs of a system share: its file's, with the study's settings over it."""
    overrides = [(key, value) for owner, key, value in map(_setting, study.settings) if owner in ("", name)]
    config = load_config(spec, overrides)
    if "data.split" in dict(overrides) or "data.path" in dict(overrides):
        raise UserError(
            "config key 'settings' of a study cannot set data.path or data.split: see data.path, fold_files"
        )
    return _shared(study, name, config)


def data_config(study: StudyConfig) -> Config:
    """The data settings that the study sets for all runs; the rest is of a model of which nothing is too large."""
    settings = [(key, value) for owner, key, value in map(_setting, study.settings) if not owner]
    own = [(key, value) for key, value in settings if key.startswith("data.")]
    own += [(f"model.{part}.positions", "1000000") for part in ("text_encoder", "decoder")]
    if size := dict(own).get("data.image_size"):
        own.append(("model.image_encoder.patch", size))
    return _shared(study, TRIVIAL, load_config(DATA_ONLY, own))


def _shared(study: StudyConfig, name: str, config: Config) -> Config:
    evaluation = dataclasses.replace(config.eval, contexts=study.contexts, bootstrap=0)
    return dataclasses.replace(
        config,
        name=name,
        eval=evaluation,
        data=dataclasses.replace(config.data, validation_fraction=study.data.validation_fraction),
        train=dataclasses.replace(config.train, tensorboard=False),
    )


def _setting(text: str) -> tuple[str, str, str]:
    """(system or nothing, key, raw value) of `KEY=VALUE` or `NAME:KEY=VALUE`."""
    left, equals, value = text.partition("=")
    owner, _, key = left.rpartition(":")
    if not equals or not key:
        raise UserError(f"config key 'settings' holds KEY=VALUE or NAME:KEY=VALUE, got {text!r}")
    return owner, key, value


def check_settings(study: StudyConfig) -> None:
    """UserError where a setting names a system that the table does not have: it would silently do nothing."""
    for owner, key, _ in map(_setting, study.settings):
        if owner and owner not in rows_of(study):
            raise UserError(f"config key 'settings': {owner}:{key} is of a system that the table does not have")


def started_from(config: Config) -> str:
    """`random`, or the weights that some part of the model was started from; `counts` where nothing is trained."""
    parts = [key for key in leaves() if key.startswith("model.") and key.endswith(".init") and get(config, key)]
    whole = config.train.start_from
    found = [f"all: {Path(whole).name}"] if whole else []
    found += [f"{key.split('.')[1]}: {Path(get(config, key)).name}" for key in parts]
    return ", ".join(found) or ("counts" if config.system in COUNTED else "random")


def trials_of(study: StudyConfig, config: Config) -> tuple[float, ...]:
    """Factors of the learning rate that are tried for a system."""
    return (1.0,) if config.system in COUNTED else study.trials
