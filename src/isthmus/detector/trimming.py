"""Trimming: rows far from all others are excluded before training."""

import numpy as np

from isthmus.detector.memory import Memory, subsample
from isthmus.types import Array

ROUNDS, NEIGHBORS, MIN_ROWS = 3, 100, 20
FENCE = 0.5
"""Rows are trimmed if their log distance exceeds the upper quartile by this many interquartile
ranges. Chosen on ADBench as a compromise between its two protocols: a larger value keeps clusters
of outliers, a smaller one loses the edges of clean data."""

MAX_TRIMMED_FRACTION = 0.3
POOLED_FRACTION = 0.01
"""Fraction of the mean variance that is added to the variance of each column. Larger values hide
columns that a few far rows inflate. On ADBench, 0.3 is half a point worse than 0.01 when the
training rows contain outliers, and 0.05 is equal."""

REFERENCE_ROWS = 4000
"""Rows that are searched for neighbors. With more of them the hundred nearest rows may all belong
to one small cluster of outliers."""

SOFT_CLIP_LIMIT = 10.0
"""Deviations beyond this many units grow by their logarithm, so that no column dominates."""


def soft_clip(values: Array) -> Array:
    """Values with the part beyond +-10 compressed: sign * (10 + log(1 + excess))."""
    size = np.abs(values)
    inside = np.minimum(size, SOFT_CLIP_LIMIT)
    return np.asarray(np.sign(values) * (inside + np.log1p(size - inside)))


def inverse_soft_clip(values: Array) -> Array:
    """The values that `soft_clip` maps to these."""
    size = np.abs(values)
    inside = np.minimum(size, SOFT_CLIP_LIMIT)
    return np.asarray(np.sign(values) * (inside + np.expm1(size - inside)))


def find_inliers(rows: Array, seed: int) -> Array:
    """(n,) bool: which of the rows (n, E), prepared and soft-clipped, are not trimmed.

    Each row's distance is the mean over its 100 nearest rows (at most a quarter of all) among 4000
    rows not trimmed so far. So many neighbors look past a small cluster of outliers. Columns are
    scaled by the spread of those 4000 rows, which outliers would inflate. At most 30 % are trimmed.
    """
    inliers = np.ones(len(rows), bool)
    if len(rows) < MIN_ROWS:
        return inliers
    n_neighbors = min(NEIGHBORS, len(rows) // 4)
    for _ in range(ROUNDS):
        reference = subsample(rows[inliers], seed, REFERENCE_ROWS)
        scale = pooled_scale(reference)
        distances = _mean_distances(Memory(reference / scale, n_neighbors), rows, scale)
        logs = np.log(distances + np.finfo(np.float32).tiny)
        low, high = np.percentile(logs, (25, 75))
        limit = max(high + FENCE * (high - low), np.quantile(logs, 1 - MAX_TRIMMED_FRACTION))
        inliers = logs <= limit
    return inliers


def pooled_scale(rows: Array) -> Array:
    """(E,): the standard deviation of each column of rows (n, E), partly pooled over columns.

    A fraction of the mean variance is added to each variance. Otherwise a column that is constant
    except in a few rows would dominate.
    """
    variance = rows.var(axis=0)
    scale = np.sqrt(variance + POOLED_FRACTION * variance.mean())
    return np.asarray(np.where(scale > 0, scale, 1.0))


def _mean_distances(memory: Memory, rows: Array, scale: Array) -> Array:
    size = 20_000
    parts = [rows[start : start + size] / scale for start in range(0, len(rows), size)]
    return np.concatenate([memory.neighbors(part)[0].mean(axis=1) for part in parts])
