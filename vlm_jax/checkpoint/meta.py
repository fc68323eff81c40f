"""What a checkpoint says of itself beside its arrays: enough to run it without its training run."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from dataclasses import dataclass, field
from typing import Any

from etils import epath

from vlm_jax.config.load import from_dict, to_dict
from vlm_jax.config.schema import Config
from vlm_jax.errors import UserError

_VERSIONS = ("vlm_jax", "jax", "flax", "optax", "orbax-checkpoint", "grain")


LATER = ("calibration", "clauses", "set_aside", "rollbacks", "inherited")
"""Fields that checkpoints of the first versions do not have."""


@dataclass(frozen=True)
class Meta:
    """The `meta` item.

    Attributes:
      config: the run's configuration.
      labels: scoped landmark names, in the order of the head's columns.
      tokenizer: the tokenizer as JSON text.
      thresholds: {scoped name: threshold or None}, chosen on the validation split.
      batches: how many training batches were consumed; the data position.
      quarantine: rows of the record table that are left out, of all processes: unreadable, or set aside by the guard.
      set_aside: {uid: why} of those.
      rollbacks: how often the run went back to a checkpoint.
      sources: {source: {world, simulator, licence, fingerprint, keywords, level, groups}} of the data it was trained
        on: `keywords` is the closed list of its reports, `groups` are the ids of the groups used, at `level`:
        {"train": [...], "validation": [...]}; of simulated ones `simulations`, too: a [world, seed] a data set.
      inherited: `sources` of the runs that its parts started from (`model.<part>.init`), and of theirs.
      metrics: validation metrics of the step; empty where it was saved in a hurry, or nothing validates.
      versions: of the libraries that wrote it.
      calibration: {scoped name: (slope, offset) of its logit}, fitted on the validation split.
      clauses: what descriptions are made of, for generation by grammar (`decoding.grammar`); empty without it.
    """

    config: Config
    labels: tuple[str, ...]
    tokenizer: str
    thresholds: dict[str, float | None] = field(default_factory=dict)
    batches: int = 0
    quarantine: tuple[int, ...] = ()
    set_aside: dict[str, str] = field(default_factory=dict)
    rollbacks: int = 0
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    inherited: tuple[dict[str, Any], ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    calibration: dict[str, tuple[float, float]] = field(default_factory=dict)
    clauses: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            **values,
            "config": to_dict(self.config),
            "labels": list(self.labels),
            "quarantine": list(self.quarantine),
            "calibration": {name: list(pair) for name, pair in self.calibration.items()},
            "clauses": list(self.clauses),
            "inherited": list(self.inherited),
        }

    @staticmethod
    def from_json(values: dict[str, Any]) -> Meta:
        """Reads `to_json`'s output; a missing field is a UserError that names it."""
        try:
            later = [name for name in LATER if name not in values]
            fields = {f.name: values[f.name] for f in dataclasses.fields(Meta) if f.name not in later}
        except (KeyError, TypeError) as error:
            raise UserError(f"the checkpoint's meta item lacks {error}: it was written by another program") from error
        fields.update(
            config=from_dict(fields["config"]), labels=tuple(fields["labels"]), quarantine=tuple(fields["quarantine"])
        )
        fields["calibration"] = {k: (v[0], v[1]) for k, v in fields.get("calibration", {}).items()}
        fields |= {name: tuple(fields.get(name, ())) for name in ("clauses", "inherited")}
        return Meta(**fields)


def read_meta(step_directory: epath.Path) -> Meta:
    """The `meta` item of a step's directory."""
    path = step_directory / "meta" / "metadata"
    try:
        return Meta.from_json(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise UserError(f"{step_directory} holds no readable meta item: is it a vlm-jax checkpoint?") from error


def versions() -> dict[str, str]:
    """Versions of the libraries in use, those that are installed."""
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
