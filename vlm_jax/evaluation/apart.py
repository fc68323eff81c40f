"""Whether what is scored was kept apart from training: the data may have grown, and their split moved, since then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vlm_jax.contract import is_simulated
from vlm_jax.data.records import LEVELS, Level
from vlm_jax.data.run_data import RunData
from vlm_jax.data.split_rules import SPLITS, SplitName
from vlm_jax.errors import UserError

USED: tuple[SplitName, ...] = ("train", "validation")
ALL = "all"
_SHOWN = 5


def groups_of(data: RunData, split: SplitName) -> dict[str, list[str]]:
    """{source: sorted ids of its groups that stand in the split}."""
    found: dict[str, set[str]] = {source: set() for source in data.sources}
    for part, cut in zip(data.parts, data.splits, strict=True):
        found[part.info.source] |= set(np.unique(cut.groups[cut.codes == SPLITS.index(split)]).tolist())
    return {source: sorted(groups) for source, groups in found.items()}


def ids_of(data: RunData, split: str, sources: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """{source: sorted ids of a split, or of `all`, at the level that the checkpoint's own groups are of}.

    A checkpoint that does not say it may name patients, procedures or sequences: the ids of all three.
    """
    found: dict[str, set[str]] = {source: set() for source in data.sources}
    for part, cut in zip(data.parts, data.splits, strict=True):
        rows = np.full(len(part), True) if split == ALL else cut.codes == SPLITS.index(split)
        named = sources.get(part.info.source, {}).get("level", "").split("+")
        levels: tuple[Level, ...] = tuple(level for level in LEVELS if named.count(level)) or LEVELS
        for level in filter(part.has, levels):
            found[part.info.source] |= set(np.unique(part.groups(level)[rows]).tolist())
    return {source: sorted(groups) for source, groups in found.items()}


def simulations(data: RunData, source: str) -> list[list[Any]]:
    """[world, seed] of each simulated data set of a source."""
    infos = [part.info for part in data.parts if part.info.source == source and is_simulated(part.info.world)]
    found = {(info.world, info.generator.get("config", {}).get("seed")) for info in infos}
    return [list(pair) for pair in sorted(found, key=str)]


def check_apart(data: RunData, split: str, meta: Mapping[str, Any]) -> None:
    """Refuses to score a split that holds what the model, or a run that it started from, has learned from.

    Args:
      data: what is to be scored.
      split: of `data`, or all; train and validation, asked for by name, are let through.
      meta: the checkpoint's; a source that is not among its `sources` or `inherited` was not trained on.

    Raises:
      UserError: names up to five such groups, or the seed of simulated ones.
    """
    if split in USED:
        return
    _refuse_shared(data, split, meta.get("sources", {}), "the checkpoint was", _OWN)
    for sources in (meta.get("sources", {}), *meta.get("inherited", ())):
        _refuse_same_draws(data, sources)
    for sources in meta.get("inherited", ()):
        _refuse_shared(data, split, sources, "a run that the checkpoint started from was", _ITS_START)


def namesakes(data: RunData, split: str, meta: Mapping[str, Any]) -> list[str]:
    """A line where groups go by names that were learned from in a source of another name, and not beside this one.

    Names of patients are often `p01` everywhere, so nothing is refused; but a folder that was built anew under another
    name is another source, too.
    """
    if split in USED:
        return []
    own, inherited = meta.get("sources", {}), tuple(meta.get("inherited", ()))
    found = []
    for source, groups in ids_of(data, split, {}).items():
        others = {
            (group, name)
            for sources in (inherited if source in own else (own, *inherited))
            for name, about in sources.items()
            if name != source
            for ids in about.get("groups", {}).values()
            for group in ids
        }
        shared = sorted((group, name) for group, name in others if group in set(groups))
        if shared:
            more = f" and {len(shared) - _SHOWN} more" if len(shared) > _SHOWN else ""
            names = ", ".join(f"{group} ({name})" for group, name in shared[:_SHOWN])
            found.append(
                f"{source}: groups of the same names were trained on in another source: {names}{more}. If they are the "
                "same people, these scores are optimistic"
            )
    return found


def _refuse_same_draws(data: RunData, sources: Mapping[str, Mapping[str, Any]]) -> None:
    """Simulations of one seed share their operations, and most of their images, whatever their world."""
    for source in data.sources:
        known = {seed: world for world, seed in sources.get(source, {}).get("simulations", ()) if seed is not None}
        for world, seed in simulations(data, source):
            if seed in known and known[seed] != world:
                raise UserError(
                    f"these data ({world}) were simulated with seed {seed}, as those that the checkpoint was trained "
                    f"on ({known[seed]}): they share operations and images; simulate them with another --seed"
                )


_OWN = (
    "its data or their split have changed since. Score the data set it was trained with, or one of other groups with "
    "--data"
)
_ITS_START = "start from one that was trained with the same data.split, data.group_by and seed as this"


def _refuse_shared(data: RunData, split: str, sources: Mapping[str, Mapping[str, Any]], who: str, do: str) -> None:
    for source, groups in ids_of(data, split, sources).items():
        used = {group for ids in sources.get(source, {}).get("groups", {}).values() for group in ids}
        if shared := [group for group in groups if group in used]:
            more = f" and {len(shared) - _SHOWN} more" if len(shared) > _SHOWN else ""
            part = f"the {split} split of {source}" if split != ALL else source
            raise UserError(
                f"{part} holds groups that {who} trained or validated on: {', '.join(shared[:_SHOWN])}{more}; {do}"
            )
