"""Splits by group: which records train, validate and test. A group never stands in two of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vlm_jax.config.schema import Config
from vlm_jax.data.records import LEVELS, Level, SourceRecords
from vlm_jax.data.split_rules import SPLITS, Rule, SplitName, hint, listed, per_source
from vlm_jax.data.streams import stream
from vlm_jax.data.validation_draw import draw_validation
from vlm_jax.errors import UserError

UNUSED = -1
LEARNED, TESTED = (SPLITS.index("train"), SPLITS.index("validation")), (SPLITS.index("test"),)
MIN_GROUPS = 3
"""With fewer groups than this none can be spared for validation: it is cut from training by sequence."""


# --- Dividing groups -------------------------------------------------------------------------------------------------


def split_groups(
    groups: Iterable[str], rule: Rule | str, *, validation_fraction: float, seed: int, what: str = "groups"
) -> tuple[dict[str, SplitName], bool]:
    """{group: split} and whether validation must still be cut from the training groups.

    Args:
      groups: the name of each record's group, in any order: how often it is named is the size of the group.
      rule: kfold tests on fold I of N of the shuffled groups, loo on one group, list on the named ones.
      validation_fraction: share of the groups that are not in test, at least one.
      seed: of the shuffle; the run's.
      what: how errors call the groups.

    Raises:
      UserError: a rule that these groups cannot meet, or that names a group that does not exist.
    """
    rule = Rule.parse(rule) if isinstance(rule, str) else rule
    sizes = Counter(groups)
    names = sorted(sizes)
    shuffled = [names[i] for i in stream("split", seed, len(names)).permutation(len(names))]
    given = _fold(shuffled, rule, what) if rule.kind == "kfold" else _named(names, rule, what)
    out: dict[str, SplitName] = {g: split for split, ids in given.items() for g in ids}
    rest = [g for g in shuffled if g not in out]
    if rule.kind == "list" and "train" in given:
        rest = [g for g in shuffled if g in given["train"]]
    if "validation" in given:
        out |= dict.fromkeys(rest, "train")
        return out, False
    cut = len(names) < MIN_GROUPS or len(rest) < 2
    validation = [] if cut else draw_validation(rest, sizes, validation_fraction, seed)
    out |= {g: "validation" if g in validation else "train" for g in rest}
    return out, cut


def _fold(shuffled: Sequence[str], rule: Rule, what: str) -> dict[SplitName, list[str]]:
    if rule.n > len(shuffled):
        n = len(shuffled)
        there, fits = (f"are {n}", f"kfold:{n}:I, loo:ID, or ") if n > 1 else ("is one", "")
        raise UserError(
            f"data.split={rule.text} needs {rule.n} {what}, there {there}: take {fits}a finer data.group_by"
        )
    return {"test": [str(g) for g in np.array_split(np.array(shuffled), rule.n)[rule.fold]]}


def _named(names: Sequence[str], rule: Rule, what: str) -> dict[SplitName, list[str]]:
    known = set(names)
    asked = rule.ids or {}
    given: dict[SplitName, list[str]] = {s: [g for g in asked[s] if g in known] for s in SPLITS if s in asked}
    if not given.get("test"):
        near = hint(asked["test"][0], names) if asked.get("test") else ""
        raise UserError(f"data.split={rule.text} names none of the {what}{near}; they are {listed(names)}")
    if rule.kind == "list" and "train" not in given and len(given["test"]) == len(known):
        raise UserError(f"data.split={rule.text} leaves nothing to train on")
    return given


def check_ids(rule: Rule, known: Iterable[str]) -> None:
    """UserError if the rule names a group that no source it stands for has."""
    known = set(known)
    for group in (g for ids in (rule.ids or {}).values() for g in ids):
        if group not in known:
            raise UserError(
                f"data.split={rule.text}: unknown group '{group}'{hint(group, known)}; known: {listed(known)}"
            )


# --- Dividing records ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SourceSplit:
    """The split of one data set.

    Attributes:
      codes: int8[n], place in SPLITS of each record, -1 = used in none.
      groups: str[n], what was split by.
      level: the column that `groups` is.
      notices: what a reader of the results must know.
      cut: validation was cut out of training groups.
    """

    codes: np.ndarray
    groups: np.ndarray
    level: Level
    notices: tuple[str, ...]
    cut: bool = False


def choose_level(records: SourceRecords, wanted: str) -> tuple[Level, list[str]]:
    """The column to group by: `wanted`, or the strictest that the source has (with a notice if `wanted` is lacking)."""
    strictest: Level = next(level for level in LEVELS if records.has(level))
    if not wanted:
        return strictest, []
    named: dict[str, Level] = {level: level for level in LEVELS}
    level = named.get(wanted)
    if level is None:
        raise UserError(f"data.group_by: expected {', '.join(LEVELS)}, got '{wanted}'{hint(wanted, LEVELS)}")
    if records.has(level):
        return level, []
    return strictest, [f"{records.info.source}: has no {level} to group by; split by {strictest}"]


def split_source(
    records: SourceRecords, rule: Rule | str, *, group_by: str = "", validation_fraction: float, seed: int
) -> SourceSplit:
    """Splits the records of one source by its groups."""
    source = records.info.source
    level, notices = choose_level(records, group_by)
    groups = records.groups(level)
    what = f"{level}s of {source}"
    assigned, cut = split_groups(groups, rule, validation_fraction=validation_fraction, seed=seed, what=what)
    codes = np.array([SPLITS.index(assigned[g]) if g in assigned else UNUSED for g in groups.tolist()], np.int8)
    if unused := {g for g in groups.tolist() if g not in assigned}:
        notices.append(f"{source}: {len(unused)} {level}s stand in no split")
    if cut:
        notices.append(_cut_validation(records, codes, validation_fraction, seed))
    if isinstance(rule, Rule) and rule.kind == "list" and {"train", "validation"} & set(rule.ids or ()) == {"train"}:
        moved = sorted({g for g in groups.tolist() if assigned.get(g) == "validation"})
        if moved:
            notices.append(f"{source}: validation is cut from the listed training {level}s: {listed(moved)}")
    return SourceSplit(codes, groups, level, tuple(notices), cut)


def _cut_validation(records: SourceRecords, codes: np.ndarray, fraction: float, seed: int) -> str:
    """Moves some sequences (or procedures) of training to validation, in place; returns the notice."""
    source, training = records.info.source, codes == SPLITS.index("train")
    for level in ("sequence", "procedure"):
        units = records.groups(level)
        sizes = Counter(units[training].tolist())
        names = sorted(sizes)
        if len(names) < 2:
            continue
        order = stream("validation", seed, len(names)).permutation(len(names))
        chosen = draw_validation([names[i] for i in order], sizes, fraction, seed)
        codes[training & np.isin(units, chosen)] = SPLITS.index("validation")
        share = f"{len(chosen)} of the {len(names)} training {level}s"
        return f"{source}: too few groups; validation is {share}, same patients"
    return f"{source}: too few groups and sequences; no validation"


# --- All sources of a run --------------------------------------------------------------------------------------------


def split_sources(parts: Sequence[SourceRecords], config: Config, absent: Collection[str] = ()) -> list[SourceSplit]:
    """Splits every data set by the rule of its source; rules may also be of sources known to be absent."""
    names = list(dict.fromkeys(part.info.source for part in parts))
    texts = per_source(config.data.split, names, "data.split", absent)
    levels = per_source(config.data.group_by, names, "data.group_by", absent)
    if missing := [name for name in names if not texts[name]]:
        raise UserError(f"data.split gives no rule for source '{missing[0]}'; add {missing[0]}=kfold:N:I, loo or list")
    rules = {text: Rule.parse(text) for text in set(texts.values())}
    splits = [
        split_source(
            part,
            rules[texts[part.info.source]],
            group_by=levels[part.info.source],
            validation_fraction=config.data.validation_fraction,
            seed=config.seed,
        )
        for part in parts
    ]
    elsewhere = set(per_source(config.data.split, sorted(absent), "data.split", names).values())
    for text, rule in ((text, rule) for text, rule in rules.items() if text not in elsewhere):
        chosen = [s for p, s in zip(parts, splits, strict=True) if texts[p.info.source] == text]
        check_ids(rule, {group for split in chosen for group in split.groups.tolist()})
    _check_apart(parts, splits)
    return _optimistic(parts, splits)


def _optimistic(parts: Sequence[SourceRecords], splits: Sequence[SourceSplit]) -> list[SourceSplit]:
    """The splits; the first of a source says so where a stricter group than the one split by, of all its data sets
    together, stands in training or validation (which chooses thresholds and the checkpoint) and in test."""
    out = list(splits)
    for source in dict.fromkeys(part.info.source for part in parts):
        own = [i for i, part in enumerate(parts) if part.info.source == source]
        levels = sorted({splits[i].level for i in own}, key=LEVELS.index)
        for above in LEVELS[: LEVELS.index(levels[-1])]:
            of_split = [
                {
                    group
                    for i in own
                    if parts[i].has(above)
                    for group in parts[i].groups(above)[np.isin(splits[i].codes, codes)].tolist()
                }
                for codes in (LEARNED, TESTED)
            ]
            if of_split[0] & of_split[1]:
                line = f"{source}: split by {'+'.join(levels)}, the same patients in training and test: optimistic"
                out[own[0]] = dataclasses.replace(out[own[0]], notices=(*out[own[0]].notices, line))
                break
    return out


def _check_apart(parts: Sequence[SourceRecords], splits: Sequence[SourceSplit]) -> None:
    """UserError if a group that two data sets of one source share stands in two splits."""
    owner: dict[tuple[str, str], int] = {}
    for part, split in zip(parts, splits, strict=True):
        codes = split.codes
        if split.cut:  # validation was cut within groups, and the notices say so: for other data sets it is training
            codes = np.where(codes == SPLITS.index("validation"), SPLITS.index("train"), codes)
        for group, code in set(zip(split.groups.tolist(), codes.tolist(), strict=True)):
            if owner.setdefault((part.info.source, group), code) != code:
                raise UserError(
                    f"data.split: {split.level} '{group}' of source '{part.info.source}' would stand in two splits, "
                    "for two data sets hold it; name the groups with list:FILE"
                )
