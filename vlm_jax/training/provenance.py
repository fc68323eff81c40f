"""Which data a run stands for: opened, described in its checkpoints, and held against them when it goes on."""

from __future__ import annotations

from typing import Any

from etils import epath

from vlm_jax.checkpoint.meta import Meta, read_meta
from vlm_jax.checkpoint.store import DIRECTORY
from vlm_jax.config.schema import Config
from vlm_jax.contract import LabelSpace
from vlm_jax.data.run_data import RunData
from vlm_jax.errors import UserError
from vlm_jax.evaluation.apart import USED, groups_of, simulations
from vlm_jax.text.tokenizer import Tokenizer
from vlm_jax.weights.whole import read_whole


def describe_sources(data: RunData) -> dict[str, dict[str, Any]]:
    """`Meta.sources`. The fingerprints of one source's data sets are joined in the order of `data.path`."""
    prints: dict[str, list[str]] = {}
    for part, fingerprint in zip(data.parts, data.fingerprints, strict=True):
        prints.setdefault(part.info.source, []).append(fingerprint)
    groups = {split: groups_of(data, split) for split in USED}
    drawn = {name: simulations(data, name) for name in data.sources}
    return {
        name: {
            "world": info.world,
            "simulator": info.simulator,
            "licence": info.licence,
            "fingerprint": "+".join(prints[name]),
            "keywords": list(info.keywords),
            "level": data.group_levels[name],
            "groups": {split: groups[split][name] for split in USED},
        }
        | ({"simulations": drawn[name]} if drawn[name] else {})
        for name, info in data.sources.items()
    }


def open_fresh(config: Config) -> RunData:
    """The data of a run that begins, with the words of the model that it starts from, unless `data.tokenizer` is set.

    Raises:
      UserError: the data, or what `train.start_from` names, cannot be used.
    """
    before = read_whole(config)
    words = before.meta.tokenizer if before is not None and not config.data.tokenizer else ""
    return RunData.open(config, Tokenizer.from_json(words) if words else None)


def open_data(config: Config, workdir: epath.Path, start: int | None) -> RunData:
    """The run's data; a resumed run keeps the tokenizer and the label names of its checkpoint, step `start`.

    Raises:
      UserError: the data are not those that the run was started with, or lack the labels that its tasks need.
    """
    if start is not None:
        meta = read_meta(workdir / DIRECTORY / str(start))
        data = RunData.open(config, Tokenizer.from_json(meta.tokenizer), LabelSpace(meta.labels))
        check_same_data(data, meta)
    else:
        data = open_fresh(config)
    if "landmarks" in config.tasks and not len(data.labels):
        raise UserError(
            "no landmarks in data.path: use configs/vlm.py:PRESET,tasks=describe+anticipate+report "
            "or add a source with labels"
        )
    return data


def check_same_data(data: RunData, meta: Meta) -> None:
    """UserError where a data set is not the one that the checkpoint was trained with, wherever it lies now."""
    sources = describe_sources(data)
    if meta.sources and list(sources) != list(meta.sources):
        raise UserError(
            f"data.path holds {', '.join(sources)}, and the run was started with {', '.join(meta.sources)}: name the "
            "same data sets in the same order, or use another --workdir"
        )
    for name, now in sources.items():
        then = meta.sources.get(name, {})
        if then.get("fingerprint", now["fingerprint"]) != now["fingerprint"]:
            raise UserError(
                f"data changed since the run started (source {name}): bring back the data set it was started with, "
                "or use another --workdir"
            )
