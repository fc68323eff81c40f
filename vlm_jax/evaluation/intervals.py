"""Intervals by bootstrap over whole groups (patients, procedures): frames of one operation are not independent.

Metrics are a function of weights: float[R, G] (how often each group was drawn, one row a resample) -> float[R, M], one
column a metric. All systems share one table of draws, so that their differences are paired.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

MIN_GROUPS = 6
"""With fewer groups an interval would pretend to know: low and high stay None."""
LEVEL = 0.95

MetricFn = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; None where undefined or not given."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def within(self, least: float, most: float) -> Estimate:
        """The same with an interval that does not leave the values that the metric can have."""
        if self.low is None or self.high is None:
            return self
        return Estimate(self.value, max(self.low, least), min(self.high, most))


@dataclass(frozen=True)
class Groups:
    """Which group each unit belongs to. `of` int[U] indexes `names`."""

    names: tuple[str, ...]
    of: np.ndarray

    @classmethod
    def build(cls, group_of_units: Sequence[str]) -> Groups:
        names = tuple(sorted(set(group_of_units)))
        index = {name: i for i, name in enumerate(names)}
        return cls(names, np.array([index[g] for g in group_of_units], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.names)

    def sums(self, per_unit: np.ndarray) -> np.ndarray:
        """float64[G, ...]: sums of float[U, ...] over the units of each group."""
        total = np.zeros((len(self), *per_unit.shape[1:]))
        np.add.at(total, self.of, per_unit)
        return total


def weighted_mean(sums: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """sums / numbers, nan where a resample holds no unit."""
    sums, numbers = np.broadcast_arrays(sums, numbers)
    return np.divide(sums, numbers, out=np.full(sums.shape, np.nan), where=numbers > 0)


@functools.lru_cache(maxsize=32)
def draws(n_groups: int, resamples: int, seed: int) -> np.ndarray:
    """float64[R, G]: how often each group is drawn in each resample; every row sums to G."""
    picks = np.random.default_rng(seed).integers(0, n_groups, (resamples, n_groups))
    return np.stack([np.bincount(row, minlength=n_groups) for row in picks]).astype(float)


@dataclass(frozen=True)
class Samples:
    """Metrics on the split, on each bootstrap resample and with each group left out.

    Attributes:
      names: the M metrics.
      value: float[M]. boot: float[R, M]. jackknife: float[G, M]; R = G = 0 where no interval is given.
      groups: float[R, M], `boot` without the chance of training; None where `boot` holds none.
    """

    names: tuple[str, ...]
    value: np.ndarray
    boot: np.ndarray
    jackknife: np.ndarray
    groups: np.ndarray | None = None

    @classmethod
    def draw(
        cls, names: Sequence[str], fn: MetricFn, n_groups: int, *, resamples: int = 1000, seed: int = 0
    ) -> Samples:
        """Evaluates `fn` on the split and, from `MIN_GROUPS` groups on, on all resamples."""
        value = fn(np.ones((1, n_groups)))
        none = np.zeros((0, len(names)))
        if n_groups < MIN_GROUPS or resamples < 1:
            return cls(tuple(names), value[0], none, none)
        return cls(tuple(names), value[0], fn(draws(n_groups, resamples, seed)), fn(1.0 - np.eye(n_groups)))

    def column(self, name: str) -> Samples:
        """One metric alone."""
        i = [self.names.index(name)]
        groups = None if self.groups is None else self.groups[:, i]
        return Samples((name,), self.value[i], self.boot[:, i], self.jackknife[:, i], groups)

    def bare(self) -> Samples:
        """The values alone, for which no interval is given."""
        return Samples(self.names, self.value, self.boot[:0], self.jackknife[:0])

    def minus(self, other: Samples) -> Samples:
        """Paired differences of the same metrics on the same groups."""
        groups = None
        if self.groups is not None or other.groups is not None:
            groups = self.of_groups - other.of_groups
        boot = self.boot - other.boot
        return Samples(self.names, self.value - other.value, boot, self.jackknife - other.jackknife, groups)

    @property
    def of_groups(self) -> np.ndarray:
        """float[R, M]: what resampling groups alone gives."""
        return self.boot if self.groups is None else self.groups

    def get(self, name: str) -> float:
        """The value of one metric on the split; nan where undefined."""
        return float(self.value[self.names.index(name)])

    def estimate(self, name: str) -> Estimate:
        """Value and interval: BCa (Efron 1987), percentile where BCa is degenerate.

        Resamples in which the metric is undefined are left out.
        """
        one = self.column(name)
        value, boot, moves = float(one.value[0]), *one._defined()
        if np.isnan(value):
            return Estimate(None)
        if not len(boot):
            return Estimate(value)
        constants = one._bca_constants(boot)
        if moves is None:
            low, high = np.quantile(boot, _bca_levels(constants))
        else:
            low, high = np.quantile(_corrected(boot, constants) + moves, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(value, float(low), float(high))

    def _defined(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Of the one metric here, where it is defined: what resampling groups gives, how far training moves that."""
        groups, boot = self.of_groups[:, 0], self.boot[:, 0]
        known = ~np.isnan(boot)
        return groups[known], None if self.groups is None else (boot - groups)[known]

    def tail(self, name: str, at: float) -> float | None:
        """The level of the one-sided BCa bound that lies at `at`: small where the metric is surely above it.

        Twice the smaller of it and its complement is the p-value of the two-sided test that inverts the interval. None
        where there is no interval. Never below 1 / (resamples + 1).
        """
        one = self.column(name)
        value, boot, moves = float(one.value[0]), *one._defined()
        if np.isnan(value) or not len(boot):
            return None
        least = 1 / (len(boot) + 1)
        constants = one._bca_constants(boot)
        if moves is not None:
            boot, constants = _corrected(boot, constants) + moves, None
        below = float(((boot < at).sum() + (boot <= at).sum()) / (2 * len(boot)))
        if constants is not None:
            bias, acceleration = constants
            distance = float(ndtri(min(max(below, least), 1 - least))) - bias
            scale = 1 + acceleration * distance
            below = float(ndtr(distance / scale - bias)) if scale > 0 else below
        return min(max(below, least), 1 - least)

    def beside(self, other: Samples, prefix: str) -> Samples:
        """These metrics and `prefix/<metric>` of others, on the same groups and draws."""
        names = (*self.names, *(f"{prefix}/{name}" for name in other.names))
        value, boot, jackknife = (
            np.concatenate([getattr(self, part), getattr(other, part)], axis=-1)
            for part in ("value", "boot", "jackknife")
        )
        groups = np.concatenate([self.of_groups, other.of_groups], axis=-1)
        return Samples(names, value, boot, jackknife, groups)

    def _bca_constants(self, boot: np.ndarray) -> tuple[float, float] | None:
        """Bias and acceleration of the one metric here; None where they cannot be computed.

        Args:
          boot: float[R], its defined resamples of groups.
        """
        value, jackknife = float(self.value[0]), self.jackknife[:, 0]
        below = float(((boot < value).sum() + (boot <= value).sum()) / (2 * len(boot)))
        deviation = jackknife.mean() - jackknife
        spread = float((deviation**2).sum())
        if np.isnan(spread) or spread < 1e-18 or not 0 < below < 1:
            return None
        return float(ndtri(below)), float((deviation**3).sum()) / (6 * spread**1.5)

    @staticmethod
    def mean(several: Sequence[Samples], name: str = "") -> Samples:
        """Means of the same metrics over training seeds, on the same groups and draws: seeds averaged inside.

        The interval holds the chance of training, too: each resample moves the mean by a draw of Student's t with S - 1
        degrees of freedom, on the scale of the mean's standard error over seeds, which is how little few seeds know
        their own spread (Fisher's 1935 solution for two sources of variance: Behrens and Fisher). With two seeds that
        is honest and wide. A single seed knows nothing of another.

        Args:
          name: of the system; those of other names are moved independently.
        """
        values, boots, left = (np.stack([getattr(s, part) for s in several]) for part in ("value", "boot", "jackknife"))
        n, boot = len(several), boots.mean(axis=0)
        if n > 1:
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            # One row for all metrics, so that they move together. A row times the deviations: normal, its variance
            # theirs; over the root of chi squared / (S - 1): Student's t.
            rows = rng.normal(size=(len(boot), n)) / np.sqrt(rng.chisquare(n - 1, size=(len(boot), 1)))
            drawn = boot + rows / np.sqrt(n) @ (values - values.mean(axis=0))
            return Samples(several[0].names, values.mean(axis=0), drawn, left.mean(axis=0), boot)
        return Samples(several[0].names, values.mean(axis=0), boot, left.mean(axis=0))


def _corrected(boot: np.ndarray, constants: tuple[float, float] | None) -> np.ndarray:
    """float[R]: resamples whose plain percentiles are the BCa bounds of `boot`, each in the place of its rank.

    Bias and skewness are those of the groups. Were they taken out after the chance of training is added, a biased
    metric (average precision, which repeated frames raise) would have its bound read far out in Student's tail.
    """
    if constants is None or _bca_levels(constants) == _bca_levels(None):  # where BCa is degenerate
        return boot
    bias, acceleration = constants
    shifted = bias + ndtri((np.argsort(np.argsort(boot, kind="stable")) + 0.5) / len(boot))
    scale = 1 - acceleration * shifted
    reached = np.divide(shifted, scale, out=np.where(shifted > 0, np.inf, -np.inf), where=scale > 0)
    return np.quantile(boot, ndtr(bias + reached))


def _bca_levels(constants: tuple[float, float] | None) -> tuple[float, float]:
    """The two quantiles to read; the plain percentiles where bias or acceleration cannot be computed."""
    tail = (1 - LEVEL) / 2
    if constants is None:
        return tail, 1 - tail
    bias, acceleration = constants
    shifted = bias + np.array([ndtri(tail), -ndtri(tail)])
    scale = 1 - acceleration * shifted
    if (scale <= 0).any():
        return tail, 1 - tail
    low, high = ndtr(bias + shifted / scale)
    return float(low), float(high)
