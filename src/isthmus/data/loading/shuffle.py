"""Batches of rows that stay on disk, shuffled in windows of a few chunks by seed and epoch alone.

The groups of a source come in an order drawn for each epoch, a few at a time. Their first chunks
form one window, their second chunks the next. The rows of a window are shuffled, and batches are
cut from one window after the other. So a row's neighbours change from epoch to epoch, every file
is read from front to back, and each batch can be computed without those before it.
"""

from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np

from isthmus.data.on_disk import ChunkedSource, numbers_per_row
from isthmus.data.row_numbers import AllRowsExcept
from isthmus.types import Index

WINDOW_BYTES = 1 << 27
"""The size of a window's rows in double precision: 128 MiB, 64 MiB as the network's numbers."""


class Part(NamedTuple):
    """Some rows of a batch."""

    window: int
    """The number of the window that holds them."""

    rows: Index
    """Their places in the window."""


class WindowBatches(Sequence[Index]):
    """The positions of each batch of one epoch; every row comes once."""

    def __init__(
        self, source: ChunkedSource, rows: AllRowsExcept, batch_size: int, *, seed: int, epoch: int
    ) -> None:
        self.batch_size, self.n_rows = batch_size, len(rows)
        self.seed = seed, epoch
        self._windows = _windows(source, np.random.default_rng(self.seed))
        bounds = [rows.positions(np.asarray(window)) for window in self._windows]
        self._positions = [window[window[:, 1] > window[:, 0]] for window in bounds]
        sizes = [int((window[:, 1] - window[:, 0]).sum()) for window in self._positions]
        self._ends = np.cumsum(sizes)
        self._orders: dict[int, Index] = {}
        self.latest: tuple[int, Index] | None = None
        """The number of the batch returned last, and the array that was returned."""

    def __len__(self) -> int:
        """How many batches there are."""
        return (self.n_rows + self.batch_size - 1) // self.batch_size

    @overload
    def __getitem__(self, index: int) -> Index: ...

    @overload
    def __getitem__(self, index: slice) -> list[Index]: ...

    def __getitem__(self, index: int | slice) -> Index | list[Index]:
        """(rows,) the positions of one batch, or a list of such arrays for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        pieces = [self.positions(part.window)[part.rows] for part in self.parts(number)]
        self.latest = number, np.concatenate(pieces)
        return self.latest[1]

    def parts(self, number: int) -> list[Part]:
        """In which windows the rows of a batch lie, and where."""
        start = number * self.batch_size
        stop = min(start + self.batch_size, self.n_rows)
        parts = []
        window = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            end = int(self._ends[window])
            first = end - len(self._order(window))
            rows = self._order(window)[start - first : min(stop, end) - first]
            if len(rows):
                parts.append(Part(window, rows))
            start, window = max(start, min(stop, end)), window + 1
        return parts

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self._windows)

    def positions(self, window: int) -> Index:
        """The positions of the rows of a window, in the order in which they lie on disk."""
        pieces = [np.arange(*ends) for ends in self._positions[window]]
        return np.concatenate(pieces) if pieces else np.arange(0)

    def _order(self, window: int) -> Index:
        """The shuffled order of the rows of a window."""
        if window not in self._orders:
            size = int(self._ends[window] - (self._ends[window - 1] if window else 0))
            order = np.random.default_rng((*self.seed, window)).permutation(size)
            while len(self._orders) > 1:  # a batch seldom lies in more than two windows
                self._orders.pop(next(iter(self._orders)))
            self._orders[window] = order
        return self._orders[window]


def _windows(source: ChunkedSource, generator: np.random.Generator) -> list[list[tuple[int, int]]]:
    """The rows of each window as (first, past the last) pairs, ascending."""
    bounds, chunk_rows = source.bounds, source.chunk_rows
    order = generator.permutation(len(bounds) - 1)
    windows = []
    for groups in _group_sets(source, order):
        most = max(-(-int(bounds[group + 1] - bounds[group]) // chunk_rows) for group in groups)
        for number in range(most):
            window = [
                (int(bounds[group]) + number * chunk_rows, int(bounds[group + 1]))
                for group in sorted(groups)
            ]
            windows.append([(a, min(a + chunk_rows, b)) for a, b in window if a < b])
    return windows


def _group_sets(source: ChunkedSource, order: Index) -> list[list[int]]:
    """The groups in their drawn order, in sets whose chunks fill a window."""
    most_rows = max(1, WINDOW_BYTES // (8 * max(numbers_per_row(source.schema), 1)))
    sets: list[list[int]] = []
    rows = unfinished = 0
    for group in order.tolist():
        size = int(source.bounds[group + 1] - source.bounds[group])
        several_chunks = size > source.chunk_rows
        size = min(size, source.chunk_rows)
        full = rows + size > most_rows or unfinished + several_chunks > source.open_at_once
        if full or not sets:
            sets.append([])
            rows = unfinished = 0
        sets[-1].append(group)
        rows, unfinished = rows + size, unfinished + several_chunks
    return sets
