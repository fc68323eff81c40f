"""How well a model with places says where landmarks are, on the frames that have masks.

Intersection over union is of the places that a landmark covers by half or more, summed over all frames (so that a frame
without the landmark counts where the model sees it there). A small landmark half covers none: its soft form takes the
shares themselves, the smaller over the larger (Ruzicka; the same where shares are 0 and 1). The area error is a mean
absolute difference, a share of the image. Beside all stands a constant answer: each place's mean share in the training
frames, for the landmarks that some of these know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.contract import NO_REGIONS, Batch
from vlm_jax.data.run_data import RunData
from vlm_jax.decoding.boxes import COVERED
from vlm_jax.evaluation.intervals import Groups, Samples, weighted_mean
from vlm_jax.metrics.classification import mean_of_defined
from vlm_jax.tasks.losses import region_shares

METRICS = ("iou", "iou_soft", "area_error")
IN_MASK = 5
"""The row of `compare` that is above 0 where the mask has the landmark."""
MOST_FRAMES = 2000
"""Of training, evenly spread, for the constant answer."""


@dataclass(frozen=True)
class PlaceUnits:
    """What is true of the U frames of one source that have masks.

    Attributes:
      names: bare names of the C landmarks.
      known: bool[U, C]; whether a landmark is in view was known, and so was where.
      groups: of the frames.
    """

    names: tuple[str, ...]
    known: np.ndarray
    groups: Groups


def compare(said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """f32[7, C] of one frame's shares [h, w, C].

    Intersection, union and what is true, of places covered by half and of shares (soft); the error of the area.
    """
    a, b = said >= COVERED, true >= COVERED
    error = np.abs(said.mean((0, 1)) - true.mean((0, 1)))
    sums = (a & b, a | b, b, np.minimum(said, true), np.maximum(said, true), true)
    return np.stack([*(each.sum((0, 1)) for each in sums), error]).astype(np.float32)


def true_shares(batch: Batch, shape: tuple[int, ...]) -> dict[int, np.ndarray]:
    """{index in the batch: f32[h, w, C] by the mask} of frames with one, on the grid of answers [B, h, w, C]."""
    masked = np.flatnonzero(np.asarray(batch.regions)[:, 0, 0] != NO_REGIONS)
    if not len(masked):
        return {}
    shares = np.asarray(_shares(jnp.asarray(batch.regions), tuple(shape))[0])
    return {int(i): shares[i] for i in masked}


_shares = jax.jit(region_shares, static_argnums=1)


@dataclass(frozen=True)
class Usual:
    """The constant answer: f32[h, w, C], each place's mean share; bool[C], where training frames with masks know it."""

    shares: np.ndarray
    known: np.ndarray


def usual_shares(data: RunData, grid: tuple[int, int], batch_size: int) -> Usual:
    """From the training frames of `data`, a place's share in those that know the landmark."""
    data = replace(data, broken={})  # what cannot be read here is left out of no score
    view, n_labels = data.records("train"), len(data.labels)
    masked = [i for i in range(len(view)) if view.record(i, image=False).mask is not None]
    rows = np.unique(np.linspace(0, len(masked) - 1, min(len(masked), MOST_FRAMES)).round().astype(int))
    total, number = np.zeros((*grid, n_labels)), np.zeros(n_labels, np.int64)
    for batch in data.batches(view, batch_size, rows=[masked[i] for i in rows]) if masked else ():
        for i, shares in true_shares(batch, (len(batch.uid), *grid, n_labels)).items():
            known = np.asarray(batch.landmarks_mask)[i] & bool(batch.valid[i])
            total, number = total + shares * known, number + known
    return Usual((total / np.maximum(number, 1)).astype(np.float32), number > 0)


def place_samples(units: PlaceUnits, compared: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> Samples:
    """Columns of `METRICS`, means over landmarks, then `class/<name>/<metric>` of each.

    Args:
      compared: f32[U, 7, C], `compare` of each frame.

    A landmark that half covers no place of any mask has no IoU, one that is in no mask no soft one, for every system
    alike; such are left out of the mean.
    """
    n = len(units.names)
    per_frame = np.concatenate([compared * units.known[:, None], units.known[:, None]], axis=1, dtype=float)
    sums = units.groups.sums(per_frame.reshape(len(per_frame), 8 * n))

    def fn(weights: np.ndarray) -> np.ndarray:
        total = (weights @ sums).reshape(len(weights), 8, n).swapaxes(0, 1)
        both, either, covered, less, more, there, error, known = total
        hard, soft = np.where(covered > 0, both, np.nan), np.where(there > 0, less, np.nan)
        each = (weighted_mean(hard, either), weighted_mean(soft, more), weighted_mean(error, known))
        return np.concatenate([np.stack([mean_of_defined(e) for e in each], axis=1), *each], axis=1)

    names = (*METRICS, *(f"class/{c}/{m}" for m in METRICS for c in units.names))
    return Samples.draw(names, fn, len(units.groups), resamples=resamples, seed=seed)
