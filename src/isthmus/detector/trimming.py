"""Which rows to learn from: those far from all others are set aside before training begins."""

import numpy as np

from isthmus.detector.memory import Memory, some_of
from isthmus.types import Array

ROUNDS, NEIGHBORS, FEWEST_ROWS = 3, 100, 20
WHISKER = 0.5
"""Rows are set aside whose logarithmic distance lies so many quartile distances above the upper
quartile. Chosen on ADBench, between both protocols: more keeps clusters of outliers, less loses
the edges of clean data."""

MOST_SET_ASIDE = 0.3
SHARED = 0.01
"""Of the mean variance, added to each column's. Larger shares leave columns hidden that far rows
widen; on ADBench 0.3 is half a point worse where outliers are learned from, and 0.05 equal."""

SAMPLE = 4000
"""Rows among which the neighbours are looked for. Among more of them the hundred nearest see no
further than a small cluster of outliers does."""

BEND = 10.0
"""Deviations beyond so many units count by their logarithm: one wild column would drown all."""


def bent(values: Array) -> Array:
    """Values with what lies beyond +-10 pulled in: 10 + log(1 + excess), with its sign."""
    size = np.abs(values)
    inside = np.minimum(size, BEND)
    return np.asarray(np.sign(values) * (inside + np.log1p(size - inside)))


def unbent(values: Array) -> Array:
    """The values that `bent` bends to these."""
    size = np.abs(values)
    inside = np.minimum(size, BEND)
    return np.asarray(np.sign(values) * (inside + np.expm1(size - inside)))


def typical_rows(rows: Array, seed: int) -> Array:
    """(n,) bool: which rows (n, E), prepared and bent, to learn from.

    Rows are ranked by their mean distance to the 100 nearest rows (or a quarter of all) among 4000
    of those kept so far: far enough to look past a small cluster of outliers. Columns are measured
    by what those rows stray, which the others would widen. At most 30 % are set aside.
    """
    kept = np.ones(len(rows), bool)
    if len(rows) < FEWEST_ROWS:
        return kept
    neighbors = min(NEIGHBORS, len(rows) // 4)
    for _ in range(ROUNDS):
        some = some_of(rows[kept], seed, SAMPLE)
        unit = spreads(some)
        distances = _mean_distances(Memory(some / unit, neighbors), rows, unit)
        distance = np.log(distances + np.finfo(np.float32).tiny)
        low, high = np.percentile(distance, (25, 75))
        limit = max(high + WHISKER * (high - low), np.quantile(distance, 1 - MOST_SET_ASIDE))
        kept = distance <= limit
    return kept


def spreads(rows: Array) -> Array:
    """(E,): how far columns of rows (n, E) stray, those that hardly do more than they do.

    The standard deviation, but a share of the mean variance over all columns is added: one that is
    constant but for a few rows would count for all.
    """
    variance = rows.var(axis=0)
    unit = np.sqrt(variance + SHARED * variance.mean())
    return np.asarray(np.where(unit > 0, unit, 1.0))


def _mean_distances(memory: Memory, rows: Array, unit: Array) -> Array:
    size = 20_000
    parts = [rows[start : start + size] / unit for start in range(0, len(rows), size)]
    return np.concatenate([memory.neighbors(part)[0].mean(axis=1) for part in parts])
