"""What a file of weights held and was not needed, as lines for a person: one a reason."""

from __future__ import annotations

import sys
from collections.abc import Iterable

_SHOWN = 4


def print_by_reason(what: str, rows: Iterable[tuple[str, str]], rest: str = "") -> None:
    """On stderr, `WHAT KEY, KEY: why`, the first keys of each reason; `rest` says where the others are listed."""
    keys: dict[str, list[str]] = {}
    for key, why in rows:
        keys.setdefault(why, []).append(key)
    for why, found in keys.items():
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        where = f" ({rest})" if more and rest else ""
        print(f"{what} {', '.join(found[:_SHOWN])}{more}: {why}{where}", file=sys.stderr)
