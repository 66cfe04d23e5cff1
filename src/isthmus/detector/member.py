"""One fitted autoencoder with its memories: what it expects of rows, and how far they stray."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from isthmus.detector.memory import Memory
from isthmus.detector.typical import bent, unbent
from isthmus.estimator import Autoencoder
from isthmus.types import Array


class Member:
    """Scores rows by their squared distance to what its memories expect of them.

    The first memory holds typical rows alone, in which a cluster of outliers finds nothing like
    itself. A second one, of all rows, is there where some were set aside: it speaks for rows at
    the edge of clean data. Both count alike.
    """

    def __init__(self, autoencoder: Autoencoder, memories: list[Memory]) -> None:
        self.autoencoder, self.memories = autoencoder, memories

    def contributions(self, X: Any) -> Array:
        """(n, D): each column's part in the score of each row, NaN where it is missing.

        The squared deviations of a row's columns, each over the number of its known columns.
        """
        preparation = self.autoencoder.preparation_
        parts = []
        for rows, rebuilt in pairs(self.autoencoder, X):
            strays = [(rows - memory.expected(rebuilt)) ** 2 for memory in self.memories]
            squares = preparation.sums(np.mean(strays, axis=0))
            known = np.maximum((~np.isnan(squares)).sum(axis=1, keepdims=True), 1)
            parts.append(squares / known)
        return np.concatenate(parts)

    def expected(self, X: Any) -> Array:
        """(n, E): what the memory of typical rows expects of rows, in prepared units."""
        memory = self.memories[0]
        return np.concatenate([unbent(memory.expected(r)) for _, r in pairs(self.autoencoder, X)])


def pairs(autoencoder: Autoencoder, X: Any) -> Iterator[tuple[Array, Array]]:
    """Each batch of rows of X and what their codes rebuild, (B, E) each, prepared and bent."""
    unit = autoencoder.preparation_.unit
    for rows, rebuilt in autoencoder.measured_pairs(X):
        yield bent(rows / unit), bent(rebuilt / unit)
