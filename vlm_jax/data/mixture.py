"""Which record stands in which slot of training: index arithmetic, so that slot g never depends on slot g - 1."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from vlm_jax.data.sampling import counts_of_epoch
from vlm_jax.data.streams import stream
from vlm_jax.errors import UserError

BLOCK = 4096
"""Slots after which the pattern of sources repeats; shares are exact to half a slot of it."""


def block_pattern(weights: Sequence[float], block: int = BLOCK) -> np.ndarray:
    """int64[L]: the source of each slot of a block, spread as evenly as can be.

    Largest-remainder quotas; a source with any weight gets at least one slot.
    """
    shares = np.asarray(weights, np.float64)
    if len(shares) == 1:
        return np.zeros(1, np.int64)
    exact = shares / shares.sum() * block
    quotas = np.floor(exact).astype(np.int64)
    rest = block - int(quotas.sum())
    quotas[np.argsort(-(exact - quotas), kind="stable")[:rest]] += 1
    quotas = np.where(shares > 0, np.maximum(quotas, 1), 0)
    places = np.concatenate([(np.arange(q) + 0.5) / q for q in quotas if q])
    sources = np.repeat(np.arange(len(quotas)), quotas)
    return sources[np.lexsort((sources, places))]


class Mixture:
    """Slot -> row. Each source runs through all of its rows in a new order every epoch.

    With `shares` an epoch is as long as ever and holds each row as often as its share says, rounded at random; which
    rows, and in which order, is a function of the seed, the source and the epoch.

    Args:
      rows: for each source its training rows (global); empty ones are left out.
      weights: for each source its share; empty = by number of rows.
      seed: the run's.
      shares: for each source the share of each of its rows (`data.sampling`), or None = all alike; empty = all None.
    """

    def __init__(
        self,
        rows: Sequence[np.ndarray],
        weights: Sequence[float] = (),
        seed: int = 0,
        shares: Sequence[np.ndarray | None] = (),
    ):
        self._row_shares = list(shares) or [None] * len(rows)
        parts = list(weights) or [float(len(r)) for r in rows]
        if len(parts) != len(rows):
            raise UserError(f"data.weights has {len(parts)} numbers for {len(rows)} data sets; give one for each")
        parts = [part if len(r) else 0.0 for part, r in zip(parts, rows, strict=True)]
        if min(parts) < 0 or not sum(parts):
            raise UserError("nothing to train on: no data set has both training records and a weight above 0")
        self._rows = [np.asarray(r, np.int64) for r in rows]
        self._seed = seed
        self._pattern = block_pattern(parts)
        one_hot = self._pattern[:, None] == np.arange(len(rows))
        self._before = np.cumsum(one_hot, axis=0) - one_hot
        self._quotas = one_hot.sum(axis=0)
        self._order = functools.lru_cache(maxsize=2 * len(rows) + 2)(self._new_order)

    def _new_order(self, source: int, epoch: int) -> np.ndarray:
        random = stream("mixture", self._seed, source, epoch)
        rows, shares = self._rows[source], self._row_shares[source]
        if shares is not None:
            rows = np.repeat(rows, counts_of_epoch(shares, random.random()))
        return random.permutation(rows)

    def row(self, slot: int) -> int:
        """The global row of the record in slot `slot` of training (batch i holds slots i * B to (i + 1) * B - 1)."""
        block, place = divmod(slot, len(self._pattern))
        source = int(self._pattern[place])
        position = block * int(self._quotas[source]) + int(self._before[place, source])
        epoch, step = divmod(position, len(self._rows[source]))
        return int(self._order(source, epoch)[step])
