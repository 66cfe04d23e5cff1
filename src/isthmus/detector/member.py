"""One fitted autoencoder with its memories: what it expects of rows, and how far they stray."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from isthmus.detector.memory import Memory
from isthmus.detector.overlaps import LearnedWindows
from isthmus.detector.trimming import bent, unbent
from isthmus.estimator import Autoencoder
from isthmus.types import Array, Index, Source

SHARED = 0.3
"""Chosen on ADBench, where all from 0.1 to 1 do about as well."""

COUNT = (1, 2)
"""How much each memory counts. More of the second finds more in clean data, less finds more
clusters of outliers."""

LEAST = 1e-6
"""Squared deviations below this, in scaled columns, are rounding; or rows are copies."""


class Member:
    """Scores rows by their squared distance to what its memories expect of them.

    The first memory holds typical rows alone, in which a cluster of outliers finds nothing like
    itself. A second one, of all rows, is there where some were set aside: it speaks for rows at
    the edge of clean data, and counts twice. `usual` (D,) is what each column's squared deviation
    usually is, by which it is divided, so that no column drowns the others.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        memories: list[Memory],
        usual: Array,
        windows: LearnedWindows | None = None,
    ) -> None:
        self.autoencoder, self.memories, self.usual = autoencoder, memories, usual
        self.windows = windows
        """What was learned, where that were windows of recordings."""

    def contributions(self, source: Source) -> Array:
        """(n, D): each column's part in the score of each row, NaN where it is missing."""
        return np.concatenate(list(self.contributed(source)))

    def contributed(self, source: Source) -> Iterator[Array]:
        """The contributions (B, D) of one batch of rows after the other.

        The squared deviations of a row's columns over their usual ones, and over the number of the
        row's known columns.
        """
        sums = self.autoencoder.preparation_.sums
        for rows, rebuilt, where in self._batches(source):
            squares = deviations(rows, rebuilt, self.memories, sums, where) / self.usual
            known = np.maximum((~np.isnan(squares)).sum(axis=1, keepdims=True), 1)
            yield squares / known

    def expected(self, source: Source) -> Array:
        """(n, E): what the memory of typical rows expects of rows, in prepared units."""
        memory = self.memories[0]
        parts = [
            unbent(memory.expected(again, where)[0]) for _, again, where in self._batches(source)
        ]
        return np.concatenate(parts)

    def _batches(self, source: Source) -> Iterator[tuple[Array, Array, Index | None]]:
        """What `pairs` gives, and where windows that were learned lie."""
        where, start = None if self.windows is None else self.windows.find(source), 0
        for rows, rebuilt in pairs(self.autoencoder, source):
            stop = start + len(rows)
            yield rows, rebuilt, None if where is None else where[start:stop]
            start = stop


def deviations(
    rows: Array,
    rebuilt: Array,
    memories: list[Memory],
    sums: Callable[[Array], Array],
    where: Index | None = None,
) -> Array:
    """(B, D): squared deviations of columns from what memories expect.

    The square of its standard error is added to what is expected of each: a row in a place where
    typical rows are few is odd too. The mean over memories, in which later ones count more.
    `where` (B, 3) tells which windows that were learned rows are.
    """
    found = []
    for memory in memories:
        mean, uncertain = memory.expected(rebuilt, where)
        found.append((rows - mean) ** 2 + uncertain)
    return sums(np.average(found, axis=0, weights=COUNT[: len(memories)]))


def usual_deviation(squares: Array) -> Array:
    """(D,): what to divide squared deviations (n, D) of columns by.

    The square of the mean deviation, on which few odd rows have little influence, and a share of
    the mean over all columns, without which one that hardly ever strays would count for most.
    """
    known = ~np.isnan(squares)
    sums = np.where(known, np.sqrt(squares), 0.0).sum(axis=0)
    usual = (sums / np.maximum(known.sum(axis=0), 1)) ** 2
    # Of a column that none of these rows knows, what is usual of the others.
    usual = np.where(known.any(axis=0), usual, usual[known.any(axis=0)].mean())
    return np.asarray(usual + max(SHARED * usual.mean(), LEAST))


def pairs(autoencoder: Autoencoder, X: Any) -> Iterator[tuple[Array, Array]]:
    """Each batch of rows of X and what their codes rebuild, (B, E) each, prepared and bent."""
    unit = autoencoder.preparation_.unit
    for rows, rebuilt in autoencoder.measured_pairs(X):
        yield bent(rows / unit), bent(rebuilt / unit)
