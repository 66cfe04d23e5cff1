"""One fitted autoencoder with its memories: what it expects of rows, and how far they stray."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from isthmus.detector.memory import Memory
from isthmus.detector.typical import bent, unbent
from isthmus.estimator import Autoencoder
from isthmus.types import Array

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

    def __init__(self, autoencoder: Autoencoder, memories: list[Memory], usual: Array) -> None:
        self.autoencoder, self.memories, self.usual = autoencoder, memories, usual

    def contributions(self, X: Any) -> Array:
        """(n, D): each column's part in the score of each row, NaN where it is missing.

        The squared deviations of a row's columns over their usual ones, and over the number of the
        row's known columns.
        """
        sums, parts = self.autoencoder.preparation_.sums, []
        for rows, rebuilt in pairs(self.autoencoder, X):
            squares = deviations(rows, rebuilt, self.memories, sums) / self.usual
            known = np.maximum((~np.isnan(squares)).sum(axis=1, keepdims=True), 1)
            parts.append(squares / known)
        return np.concatenate(parts)

    def expected(self, X: Any) -> Array:
        """(n, E): what the memory of typical rows expects of rows, in prepared units."""
        memory = self.memories[0]
        return np.concatenate(
            [unbent(memory.expected(again)[0]) for _, again in pairs(self.autoencoder, X)]
        )


def deviations(
    rows: Array, rebuilt: Array, memories: list[Memory], sums: Callable[[Array], Array]
) -> Array:
    """(B, D): squared deviations of columns from what memories expect.

    The square of its standard error is added to what is expected of each: a row in a place where
    typical rows are few is odd too. The mean over memories, in which later ones count more.
    """
    found = []
    for memory in memories:
        mean, uncertain = memory.expected(rebuilt)
        found.append((rows - mean) ** 2 + uncertain)
    return sums(np.average(found, axis=0, weights=COUNT[: len(memories)]))


def usual_deviation(squares: Array) -> Array:
    """(D,): what to divide squared deviations (n, D) of columns by.

    The square of the mean deviation, on which few odd rows have little influence, and a share of
    the mean over all columns, without which one that hardly ever strays would count for most.
    """
    usual = np.nanmean(np.sqrt(squares), axis=0) ** 2
    return np.asarray(usual + max(SHARED * usual.mean(), LEAST))


def pairs(autoencoder: Autoencoder, X: Any) -> Iterator[tuple[Array, Array]]:
    """Each batch of rows of X and what their codes rebuild, (B, E) each, prepared and bent."""
    unit = autoencoder.preparation_.unit
    for rows, rebuilt in autoencoder.measured_pairs(X):
        yield bent(rows / unit), bent(rebuilt / unit)
