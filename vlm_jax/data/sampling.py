"""How often each training record is drawn: shares that lift rare landmarks, by activity and not by frame.

An activity is one configuration seen many times; a landmark is rare if few activities have it, however long they are.
"""

from __future__ import annotations

import numpy as np

from vlm_jax.config.schema import DataConfig
from vlm_jax.data.records import SourceRecords


def repeat_factors(labels: np.ndarray, activities: np.ndarray, threshold: float) -> np.ndarray:
    """float64[n]: repeat-factor sampling (Gupta et al. 2019, arXiv 1908.03195, section 5.2), activities for images.

    max over the landmarks of a record of max(1, sqrt(threshold / share of the activities that have it)); 1 without one.

    Args:
      labels: int8[n, C], 1 where present; what is not known counts as absent.
      activities: n ids; records of one id are of one activity.
      threshold: share of the activities below which a landmark is repeated.
    """
    present = labels == 1
    share = _activity_counts(present, activities) / max(1, len(np.unique(activities)))
    factor = np.maximum(1.0, np.sqrt(threshold / np.maximum(share, 1e-12)))
    return np.where(present, factor, 1.0).max(axis=1, initial=1.0)


def class_balanced(labels: np.ndarray, activities: np.ndarray) -> np.ndarray:
    """float64[n], adds up to 1: draw a landmark evenly, then one of its activities evenly, then one of its frames.

    Records without any landmark count as one more class. Arguments as in `repeat_factors`.
    """
    present = labels == 1
    classes = np.concatenate([present, ~present.any(axis=1, keepdims=True)], axis=1)
    classes = classes[:, classes.any(axis=0)]
    place = np.unique(activities, return_inverse=True)[1]
    shares = np.zeros(len(labels))
    for column in classes.T:
        frames = np.bincount(place[column], minlength=place.max() + 1)
        of_class = np.count_nonzero(frames)
        shares[column] += 1.0 / (classes.shape[1] * of_class * frames[place[column]])
    return shares


def _activity_counts(present: np.ndarray, activities: np.ndarray) -> np.ndarray:
    """int64[C]: activities with a record in which the landmark is present."""
    names = np.asarray(activities)
    return np.array([len(np.unique(names[column])) for column in present.T], np.int64)


def counts_of_epoch(shares: np.ndarray, offset: float) -> np.ndarray:
    """int64[n], adds up to n: how often each record stands in an epoch of n slots.

    Systematic sampling: the expectation over offsets in [0, 1) is n times the share, and a count is never more than one
    away from that.
    """
    n = len(shares)
    ends = np.cumsum(shares / shares.sum()) * n
    ends[-1] = n
    marks = np.floor(ends + offset) - np.floor(offset)
    marks[-1] = n
    return np.diff(marks, prepend=0).astype(np.int64)


def source_shares(part: SourceRecords, rows: np.ndarray, data: DataConfig) -> np.ndarray | None:
    """Shares of these rows of a source by `data.sampling`, adding up to 1; None = all alike, as without landmarks."""
    if data.sampling == "uniform" or not len(rows) or not part.info.labels:
        return None
    labels = np.stack([part.labels(int(i)) for i in rows])
    if not (labels == 1).any():
        return None
    activities = np.array([part.activity_id(int(i)) or f"row {i}" for i in rows])
    if data.sampling == "class_balanced":
        return class_balanced(labels, activities)
    factors = repeat_factors(labels, activities, data.repeat_threshold)
    return factors / factors.sum()
