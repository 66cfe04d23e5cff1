"""One fitted autoencoder of a detector, with its memories: expected rows and contributions."""

# Shape letters: B rows in a batch, n rows in all, E prepared features, D columns.

from collections.abc import Callable, Iterator

import numpy as np

from isthmus.data.source import Source
from isthmus.detector.memory import Memory
from isthmus.detector.overlaps import TrainingWindows
from isthmus.detector.trimming import inverse_soft_clip, soft_clip
from isthmus.estimator import Autoencoder
from isthmus.types import Array, Index

POOLED_FRACTION = 0.3
"""Fraction of the mean scale that is added to each column's. Chosen on ADBench, where values from
0.1 to 1 do about as well."""

MEMORY_WEIGHTS = (1, 2)
"""Weights of the two memories. A larger second weight finds more in clean data, a smaller one finds
more clusters of outliers."""

MIN_SCALE = 1e-6
"""Squared deviations below this, in prepared units, are rounding errors or copies of rows."""


class EnsembleMember:
    """Scores rows by their squared deviation from the rows that its memories expect.

    The first memory holds typical rows only, so that a cluster of outliers has no neighbors in it.
    If rows were trimmed, a second memory holds all rows: it represents the edges of clean data and
    has twice the weight. `column_scale` (D,) holds the usual squared deviation of each column.
    Dividing by it keeps single columns from dominating the score.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        memories: list[Memory],
        column_scale: Array,
        windows: TrainingWindows | None = None,
    ) -> None:
        self.autoencoder, self.memories = autoencoder, memories
        self.column_scale = column_scale
        self.windows = windows
        """The training windows, if the detector was fitted on recordings."""

    def contributions(self, source: Source) -> Array:
        """(n, D): the contribution of each column to the score of each row; NaN if missing."""
        return np.concatenate(list(self.contribution_batches(source)))

    def contribution_batches(self, source: Source) -> Iterator[Array]:
        """The contributions (B, D) of each batch of rows.

        A contribution is the squared deviation divided by the column's scale and by the number of
        columns of the row that are not missing.
        """
        sums = self.autoencoder.preparation_.column_sums
        for rows, reconstructions, extents in self._batches(source):
            squares = squared_deviations(rows, reconstructions, self.memories, sums, extents)
            scaled = squares / self.column_scale
            present = np.maximum((~np.isnan(scaled)).sum(axis=1, keepdims=True), 1)
            yield scaled / present

    def expected_rows(self, source: Source) -> Array:
        """(n, E): the rows that the memory of typical rows expects, in prepared units."""
        memory = self.memories[0]
        parts = [
            inverse_soft_clip(memory.expected_rows(reconstructions, extents)[0])
            for _, reconstructions, extents in self._batches(source)
        ]
        return np.concatenate(parts)

    def _batches(self, source: Source) -> Iterator[tuple[Array, Array, Index | None]]:
        """Rows, reconstructions and window extents of each batch."""
        extents, start = None if self.windows is None else self.windows.find(source), 0
        for rows, reconstructions in prepared_pairs(self.autoencoder, source):
            stop = start + len(rows)
            yield rows, reconstructions, None if extents is None else extents[start:stop]
            start = stop


def squared_deviations(
    rows: Array,
    reconstructions: Array,
    memories: list[Memory],
    sums: Callable[[Array], Array],
    extents: Index | None = None,
) -> Array:
    """(B, D): squared deviations of columns from the expected rows, averaged over memories.

    The squared standard error of the expected row is added, because a row in a region with few
    typical rows is an outlier too. `sums` adds the features (B, E) of each column. `extents` (B, 3)
    are those of windows that were trained on.
    """
    squares = []
    for memory in memories:
        mean, error = memory.expected_rows(reconstructions, extents)
        squares.append((rows - mean) ** 2 + error)
    return sums(np.average(squares, axis=0, weights=MEMORY_WEIGHTS[: len(memories)]))


def fit_column_scale(squares: Array) -> Array:
    """(D,): the divisors for squared deviations (n, D) of columns.

    The square of the mean absolute deviation, on which a few outliers have little influence, plus a
    fraction of its mean over all columns. Without that fraction a nearly constant column would
    dominate.
    """
    present = ~np.isnan(squares)
    sums = np.where(present, np.sqrt(squares), 0.0).sum(axis=0)
    scale = (sums / np.maximum(present.sum(axis=0), 1)) ** 2
    # A column without any value gets the mean scale of the others.
    scale = np.where(present.any(axis=0), scale, scale[present.any(axis=0)].mean())
    return np.asarray(scale + max(POOLED_FRACTION * scale.mean(), MIN_SCALE))


def prepared_pairs(autoencoder: Autoencoder, source: Source) -> Iterator[tuple[Array, Array]]:
    """Each batch of rows and their reconstructions, (B, E) each, prepared and soft-clipped."""
    model, unit = autoencoder.model_, autoencoder.preparation_.unit
    for rows, reconstructions in model.measured_batches(model.open_rows(source)):
        yield soft_clip(rows / unit), soft_clip(reconstructions / unit)
