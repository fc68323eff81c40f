"""The rules of a split as they are written: `kfold:N:I`, `loo:ID`, `list:FILE`, for all sources or by source."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlm_jax.config.values import by_source
from vlm_jax.errors import UserError

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

_RULE = re.compile(r"(kfold|loo|list):(.+)")
_KFOLD = re.compile(r"(\d+):(\d+)")


def per_source(text: str, sources: Sequence[str], key: str, absent: Collection[str] = ()) -> dict[str, str]:
    """`rule` for all, or `source=rule,...` (others may be `absent`), by source."""
    rules = by_source(text)
    default = rules.pop("", "")
    named: dict[str, str] = {}
    for source, rule in rules.items():
        if source in sources:
            named[source] = rule
        elif source not in absent:
            raise UserError(f"{key}: unknown source '{source}'{hint(source, sources)}; data.path has {listed(sources)}")
    return {source: named.get(source, default) for source in sources}


def hint(given: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing."""
    close = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def listed(names: Iterable[str], most: int = 6) -> str:
    """The first names in order, and how many more there are."""
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass(frozen=True)
class Rule:
    """A parsed split rule: `kfold` with n and fold, `loo` with the ids to test on, or `list` with ids by split."""

    text: str
    kind: str
    n: int = 0
    fold: int = 0
    ids: Mapping[str, tuple[str, ...]] | None = None

    @staticmethod
    def parse(text: str) -> Rule:
        """Reads `kfold:N:I`, `loo:ID` or `list:FILE`."""
        match = _RULE.fullmatch(text)
        if not match:
            raise UserError(f"data.split: expected kfold:N:I, loo:ID or list:FILE, got '{text}'")
        kind, rest = match.groups()
        if kind == "loo":
            return Rule(text, kind, ids={"test": (rest,)})
        if kind == "list":
            return Rule(text, kind, ids=read_list(rest))
        numbers = _KFOLD.fullmatch(rest)
        if not numbers or not 0 <= int(numbers[2]) < int(numbers[1]) or int(numbers[1]) < 2:
            raise UserError(f"data.split: kfold:N:I needs N of at least 2 and I from 0 to N - 1, got '{text}'")
        return Rule(text, kind, n=int(numbers[1]), fold=int(numbers[2]))


def read_list(path: str, *, key: str = "data.split", apart: bool = True) -> dict[str, tuple[str, ...]]:
    """{split: ids} of a list file that the setting `key` names; UserError if an id stands in two splits, unless that is
    not asked for."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{key}: cannot read the list file '{path}'; check its path") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{key}: '{path}' is not JSON (line {error.lineno}); it {_LIST_FORM}") from None
    if not isinstance(content, dict) or "test" not in content or not set(content) <= set(SPLITS):
        raise UserError(f"{key}: '{path}' {_LIST_FORM}")
    owner: dict[str, str] = {}
    for split, ids in content.items():
        if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
            raise UserError(f"{key}: '{split}' in '{path}' must be a list of strings")
        for group in ids:
            if apart and owner.setdefault(group, split) != split:
                both = f"{owner[group]} and {split}"
                raise UserError(f"{key}: '{group}' stands in both {both} of '{path}'; keep one")
    return {split: tuple(ids) for split, ids in content.items()}


_LIST_FORM = (
    'must be {"train": [...], "validation": [...], "test": [...]}: validation that is left out is cut from training, '
    "and training that is left out is the rest"
)
