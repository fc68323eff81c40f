"""Which groups validate: a seeded draw that leaves enough to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlm_jax.data.streams import stream

OVERWEIGHT = 1.5
"""A draw that holds more than this many times the share of the records that was asked for is drawn again."""
DRAWS = 100


def draw_validation(names: Sequence[str], sizes: Mapping[str, int], fraction: float, seed: int) -> list[str]:
    """Some of `names` (two or more), already shuffled, for validation: `fraction` of them, at least one, never all.

    Groups may differ in size tenfold, and a few long ones would leave little to train on: draws that are overweight are
    drawn again, and the lightest of `DRAWS` is taken if every one is.

    Args:
      names: of the groups, shuffled: the first of them are the first draw.
      sizes: records of each.
      fraction: the share asked for, of the groups as of the records.
      seed: of the later draws.
    """
    n = min(len(names) - 1, max(1, round(fraction * len(names))))
    most = OVERWEIGHT * fraction * sum(sizes[g] for g in names)
    random = stream("validation draw", seed, len(names))
    draws = [list(names[:n])]
    while sum(sizes[g] for g in draws[-1]) > most and len(draws) < DRAWS:
        draws.append([names[int(i)] for i in random.permutation(len(names))[:n]])
    return min(reversed(draws), key=lambda draw: max(most, sum(sizes[g] for g in draw)))
