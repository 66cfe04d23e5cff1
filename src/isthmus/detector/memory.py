"""The expected value of a row: the mean of the typical rows with the nearest reconstructions."""

from functools import cached_property

import numpy as np
from sklearn.neighbors import NearestNeighbors

from isthmus.detector.overlaps import overlaps
from isthmus.types import Array, Index

MIN_ROWS, MAX_ROWS, MAX_VALUES = 10_000, 100_000, 4_000_000
"""Limits of a memory's size: rows, and values of all rows together."""

SUBSAMPLE_ROWS = 10_000
"""Rows that are enough to estimate the scale of the columns and the number of components."""

DUPLICATE_TOLERANCE = 1e-4
"""Reconstructions nearer than this fraction of a typical distance belong to one row: rounding
differs between batches."""


class Memory:
    """The reconstructions of typical rows, searched for nearest neighbors.

    An autoencoder alone also reconstructs rows that are far from all training rows if they lie on
    the manifold it has learned. The memory expects such a row to be at the nearest part of the
    manifold that holds training rows.

    Source: Gong et al., "Memorizing normality to detect anomaly" (ICCV 2019).
    """

    def __init__(
        self,
        reconstructions: Array,
        n_neighbors: int,
        extents: Index | None = None,
        max_overlap_count: int = 0,
    ) -> None:
        self.reconstructions = np.ascontiguousarray(reconstructions, dtype=np.float32)
        """(M, E)."""

        self.extents, self.max_overlap_count = extents, max_overlap_count
        """(M, 3): recording, start and stop of each window, None if rows are not windows; and the
        largest number of training windows that share samples with one window."""

        # A row may be its own nearest neighbor, which is then left out.
        self.n_neighbors = max(1, min(n_neighbors, len(reconstructions) - 1))

    def __len__(self) -> int:
        """The number of typical rows, M."""
        return len(self.reconstructions)

    @cached_property
    def _index(self) -> NearestNeighbors:
        return NearestNeighbors(n_neighbors=self.n_neighbors).fit(self.reconstructions)

    @cached_property
    def _duplicate_distance(self) -> float:
        """The distance up to which two reconstructions are taken for the same row."""
        positions = np.linspace(0, len(self) - 1, min(len(self), 1000)).astype(int)
        count = min(self.n_neighbors + 1, len(self))
        distances = self._index.kneighbors(self.reconstructions[positions], count)[0]
        return DUPLICATE_TOLERANCE * float(np.median(distances[:, -1]))

    def neighbors(self, queries: Array, extents: Index | None = None) -> tuple[Array, Array]:
        """(B, k) distances from reconstructions (B, E) to typical rows, and their positions.

        A typical row that equals the query is left out, once. If the queries have `extents` (B, 3),
        windows that share samples with the query are left out too, as long as others remain.
        """
        if self.extents is not None and extents is not None:
            return self._disjoint_neighbors(queries, extents, self.extents)
        count = min(self.n_neighbors + 1, len(self))
        distances, positions = self._search(queries, count)
        if count == self.n_neighbors:  # a memory of one row
            return distances, positions
        is_itself = distances[:, :1] <= self._duplicate_distance
        columns = np.arange(self.n_neighbors) + is_itself
        return _take(distances, columns), _take(positions, columns)

    def _disjoint_neighbors(
        self, queries: Array, extents: Index, stored: Index
    ) -> tuple[Array, Array]:
        """The nearest neighbors that share no samples with the queries at `extents`."""
        count = min(self.n_neighbors + 1 + self.max_overlap_count, len(self))
        distances, positions = self._search(queries, count)
        rank = overlaps(extents, stored[positions]).astype(int)
        rank[:, 0] += distances[:, 0] <= self._duplicate_distance
        rank += (stored[positions] == extents[:, None]).all(axis=2)
        # Disjoint windows first, then those that share samples, then the row itself.
        order = np.argsort(rank, axis=1, kind="stable")[:, : self.n_neighbors]
        return _take(distances, order), _take(positions, order)

    def _search(self, queries: Array, count: int) -> tuple[Array, Array]:
        distances, positions = self._index.kneighbors(
            np.ascontiguousarray(queries, dtype=np.float32), count
        )
        return distances, positions

    def expected_rows(
        self, reconstructions: Array, extents: Index | None = None
    ) -> tuple[Array, Array]:
        """The expected rows for reconstructions (B, E), and their squared standard errors.

        These are the mean of the nearest typical rows and the variance of that mean, both (B, E)
        float64. The variance is large if typical rows are sparse, and 0 for a single neighbor.
        `extents` are explained in `neighbors`.
        """
        positions = self.neighbors(reconstructions, extents)[1]
        nearest = self.reconstructions[positions].astype(np.float64)
        mean = nearest.mean(axis=1)
        squares = ((nearest - mean[:, None]) ** 2).sum(axis=1)
        return mean, squares / max(self.n_neighbors * (self.n_neighbors - 1), 1)


def max_memory_rows(features: int) -> int:
    """The largest number of rows in a memory: 4 million values, and 10,000 to 100,000 rows.

    Wide rows are searched by brute force; narrow ones in a tree, where more rows cost little.
    """
    return int(np.clip(MAX_VALUES // features, MIN_ROWS, MAX_ROWS))


def subsample(rows: Array, seed: int, size: int = SUBSAMPLE_ROWS) -> Array:
    """At most `size` of the rows (n, ...), drawn at random and in their original order."""
    if len(rows) <= size:
        return rows
    positions = np.random.default_rng(seed).choice(len(rows), size, replace=False)
    return np.asarray(rows[np.sort(positions)])


def _take(values: Array, columns: Array) -> Array:
    return np.asarray(np.take_along_axis(values, columns, axis=1))
