"""What a row is expected to be: the mean of the typical rows that are rebuilt most like it."""

from functools import cached_property

import numpy as np
from sklearn.neighbors import NearestNeighbors

from isthmus.detector.overlaps import share
from isthmus.types import Array, Index

FEWEST_REMEMBERED, MOST_REMEMBERED, MOST_NUMBERS = 10_000, 100_000, 4_000_000
SAMPLE = 10_000
"""Rows that tell of the neighbourhood of all others well enough."""

SAME = 1e-4
"""Rebuilt rows nearer than this share of a typical distance are one row, coded in other batches."""


class Memory:
    """Typical rows, each as its code rebuilds it: a memory as of Gong et al. (2019).

    An autoencoder alone also rebuilds rows that lie far from all others but on its surface. What
    its memory expects of such a row is the nearest place on that surface where rows do lie.
    """

    def __init__(
        self, rebuilt: Array, n_neighbors: int, where: Index | None = None, most_shared: int = 0
    ) -> None:
        self.rebuilt = np.ascontiguousarray(rebuilt, dtype=np.float32)
        self.where, self.most_shared = where, most_shared
        """(n, 3): which samples of which recording a row is cut from; None for other rows. And with
        how many rows that were learned one may share samples."""

        # Each row may be its own nearest one, which is no witness for itself.
        self.n_neighbors = max(1, min(n_neighbors, len(rebuilt) - 1))

    def __len__(self) -> int:
        """How many typical rows there are."""
        return len(self.rebuilt)

    @cached_property
    def _index(self) -> NearestNeighbors:
        return NearestNeighbors(n_neighbors=self.n_neighbors).fit(self.rebuilt)

    @cached_property
    def _same(self) -> float:
        some = self.rebuilt[np.linspace(0, len(self) - 1, min(len(self), 1000)).astype(int)]
        distances = self._index.kneighbors(some, min(self.n_neighbors + 1, len(self)))[0]
        return SAME * float(np.median(distances[:, -1]))

    def neighbors(self, rebuilt: Array, where: Index | None = None) -> tuple[Array, Array]:
        """(B, k) distances of rebuilt rows (B, E) to typical ones and which these are.

        A typical row that is the row itself is left out, once, and where rows are told by their
        extents (B, 3) those that share samples with it are, as long as there are others.
        """
        if self.where is not None and where is not None:
            return self._apart(rebuilt, where, self.where)
        wanted = min(self.n_neighbors + 1, len(self))
        queries = np.ascontiguousarray(rebuilt, dtype=np.float32)
        distances, found = self._index.kneighbors(queries, wanted)
        if wanted == self.n_neighbors:  # a memory of one row
            return distances, found
        itself = distances[:, :1] <= self._same
        kept = np.arange(self.n_neighbors) + itself
        return tuple(np.take_along_axis(values, kept, axis=1) for values in (distances, found))  # type: ignore[return-value]

    def _apart(self, rebuilt: Array, where: Index, own: Index) -> tuple[Array, Array]:
        """The same, of rows that share no samples with those at `where`."""
        wanted = min(self.n_neighbors + 1 + self.most_shared, len(self))
        queries = np.ascontiguousarray(rebuilt, dtype=np.float32)
        distances, found = self._index.kneighbors(queries, wanted)
        last = share(where, own[found]).astype(int)
        last[:, 0] += distances[:, 0] <= self._same
        last += (own[found] == where[:, None]).all(axis=2)
        # The nearest first; those that share samples, and then the row itself, if need be.
        order = np.argsort(last, axis=1, kind="stable")[:, : self.n_neighbors]
        return tuple(np.take_along_axis(values, order, axis=1) for values in (distances, found))  # type: ignore[return-value]

    def expected(self, rebuilt: Array, where: Index | None = None) -> tuple[Array, Array]:
        """What rows that are rebuilt so (B, E) are expected to be, and how uncertain that is.

        The mean of the nearest typical rows and the square of its standard error, both (B, E)
        float64. Where typical rows are few, that is large; a single one leaves it at 0.
        See `neighbors`.
        """
        nearest = self.rebuilt[self.neighbors(rebuilt, where)[1]].astype(np.float64)
        mean = nearest.mean(axis=1)
        squares = ((nearest - mean[:, None]) ** 2).sum(axis=1)
        return mean, squares / max(self.n_neighbors * (self.n_neighbors - 1), 1)


def most_remembered(features: int) -> int:
    """How many rows a memory holds: 4 million numbers, from 10,000 to 100,000 rows.

    Wide rows are searched one by one; narrow ones in a tree, where many cost little.
    """
    return int(np.clip(MOST_NUMBERS // features, FEWEST_REMEMBERED, MOST_REMEMBERED))


def some_of(rows: Array, seed: int, most: int = SAMPLE) -> Array:
    """At most `most` of the rows (n, ...), drawn from the seed, in their order."""
    if len(rows) <= most:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), most, replace=False)
    return np.asarray(rows[np.sort(chosen)])
