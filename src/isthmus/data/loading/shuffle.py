"""Batches of rows that stay on disk: shuffled in windows of a few chunks, by seed and epoch alone.

The groups of a source come in an order drawn for each epoch, some at a time; their first chunks are
a window, their second ones the next. The rows of a window are shuffled, and batches are cut from
one window after the other. So a row's neighbours change from epoch to epoch, and yet every file is
read from front to back, and every batch can be told without those before it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from isthmus.data.on_disk import Blocks, width_of
from isthmus.data.row_numbers import AllBut
from isthmus.types import Index

WINDOW_BYTES = 1 << 27
"""What the rows of a window take as numbers of double precision: 128 MiB, 64 as the network's."""


class Part(NamedTuple):
    """Some rows of a batch: those at `places` of window number `window`."""

    window: int
    places: Index


class WindowBatches(Sequence[Index]):
    """The positions of each batch of one epoch, every row of `rows` once."""

    def __init__(
        self, source: Blocks, rows: AllBut, batch_size: int, *, seed: int, epoch: int
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
        """The batch that was asked for last: its number and the very array that was given."""

    def __len__(self) -> int:
        """How many batches there are."""
        return (self.n_rows + self.batch_size - 1) // self.batch_size

    def __getitem__(self, at: Any) -> Any:
        """(rows,) the positions of a batch, or a list of such for a slice."""
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        found = [self.positions(part.window)[part.places] for part in self.parts(at)]
        self.latest = at, np.concatenate(found)
        return self.latest[1]

    def parts(self, at: int) -> list[Part]:
        """Where the rows of a batch lie."""
        start = at * self.batch_size
        stop = min(start + self.batch_size, self.n_rows)
        found = []
        window = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            end = int(self._ends[window])
            first = end - len(self._order(window))
            places = self._order(window)[start - first : min(stop, end) - first]
            if len(places):
                found.append(Part(window, places))
            start, window = max(start, min(stop, end)), window + 1
        return found

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self._windows)

    def positions(self, window: int) -> Index:
        """The positions of the rows of a window, in the order in which they lie on disk."""
        found = [np.arange(*ends) for ends in self._positions[window]]
        return np.concatenate(found) if found else np.arange(0)

    def _order(self, window: int) -> Index:
        """In which order the rows of a window come."""
        if window not in self._orders:
            size = int(self._ends[window] - (self._ends[window - 1] if window else 0))
            order = np.random.default_rng((*self.seed, window)).permutation(size)
            while len(self._orders) > 1:  # a batch seldom lies in more than two windows
                self._orders.pop(next(iter(self._orders)))
            self._orders[window] = order
        return self._orders[window]


def _windows(source: Blocks, generator: np.random.Generator) -> list[list[tuple[int, int]]]:
    """The rows of each window as (first, past the last) pairs, ascending."""
    bounds, step = source.bounds, source.step
    order = generator.permutation(len(bounds) - 1)
    found = []
    for together in _together(source, order):
        most = max(-(-int(bounds[group + 1] - bounds[group]) // step) for group in together)
        for number in range(most):
            window = [
                (int(bounds[group]) + number * step, int(bounds[group + 1]))
                for group in sorted(together)
            ]
            found.append([(a, min(a + step, b)) for a, b in window if a < b])
    return found


def _together(source: Blocks, order: Index) -> list[list[int]]:
    """The groups in the order in which they come, cut where a window is full."""
    most_rows = max(1, WINDOW_BYTES // (8 * max(width_of(source.schema), 1)))
    found: list[list[int]] = []
    rows = pieces = 0
    for group in order.tolist():
        size = int(source.bounds[group + 1] - source.bounds[group])
        several = size > source.step
        size = min(size, source.step)
        full = rows + size > most_rows or pieces + several > source.open_at_once
        if full or not found:
            found.append([])
            rows = pieces = 0
        found[-1].append(group)
        rows, pieces = rows + size, pieces + several
    return found
