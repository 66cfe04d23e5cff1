"""Rows that stay on disk as the network's tensors, a few windows of which are in memory."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.data.loading.rows import ROWS_AT_ONCE, Rows
from isthmus.data.loading.shuffle import WindowBatches
from isthmus.data.on_disk import Blocks
from isthmus.data.prefetch import ahead
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.row_numbers import AllBut, Pieces
from isthmus.data.splitting.holdout import blocks
from isthmus.types import Index

SAMPLE_ROWS = 8192
"""So many rows are looked at, evenly spaced, where none are in memory."""

AHEAD = 1
"""Windows that are read ahead of the one in use."""

RESIDENT_BYTES = 1 << 26
"""Rows that take no more than this as the network's numbers are kept in memory all the same."""


class StreamedRows(Rows):
    """Rows of a source on disk, all but a few; they count alike."""

    source: Blocks
    rows: AllBut

    def __init__(
        self,
        source: Blocks,
        preparation: Preparation,
        rows: AllBut,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        depth: int = AHEAD,
    ) -> None:
        super().__init__(
            source, preparation, rows, dtype=dtype, device=device, resident=RESIDENT_BYTES
        )
        self.depth = depth
        self._feed: _Feed | _InOrder | None = None

    @property
    def sampled(self) -> Index:
        """Positions of rows to look at: those in memory, where there are any."""
        if self.resident is not None:
            return np.arange(len(self))
        if not len(self.source.pinned):
            some = min(len(self), SAMPLE_ROWS)
            return np.linspace(0, len(self) - 1, some).round().astype(np.intp)
        pinned = self.source.pinned
        return self.rows.positions(pinned[~np.isin(pinned, self.rows.left_out)])

    def in_memory(self) -> Rows:
        """The rows to look at, as rows of their own."""
        chosen = self.rows[self.sampled]
        return Rows(self.source, self.preparation, chosen, dtype=self.dtype, device=self.device)

    def batches(self, size: int, *, seed: int, epoch: int) -> Sequence[Index]:
        """The positions of each batch of an epoch: see `WindowBatches`."""
        return WindowBatches(self.source, self.rows, size, seed=seed, epoch=epoch)

    @contextmanager
    def ahead(self, batches: Sequence[Index], first: int) -> Iterator[None]:
        """While inside, read what batch number `first` and those after it need before its time."""
        if self.resident is not None:
            yield
        elif isinstance(batches, WindowBatches):
            load = self._load(batches)
            with self._fed_by(load, self._windows(batches, first), _Feed(batches)):
                yield
        else:
            with self._fed_by(self._part, self._parts(), _InOrder()):
                yield

    @contextmanager
    def _fed_by(self, load: Any, items: Any, feed: Any) -> Iterator[None]:
        loading = ahead(load, items, depth=self.depth)
        with closing(loading):
            feed.loading, self._feed = loading, feed
            try:
                yield
            finally:
                self._feed = None

    def _parts(self) -> Pieces:
        """All positions in order, as many at a time as a chunk has rows."""
        size = max(1, blocks(self.source).size // ROWS_AT_ONCE) * ROWS_AT_ONCE
        return Pieces(AllBut(len(self)), size)

    def _part(self, positions: Index) -> tuple[Index, Tensor]:
        return positions, super().take(positions)

    def take(self, positions: Index) -> Tensor:
        """(len(positions), *shape): the rows at these positions."""
        fed = None if self._feed is None else self._feed.take(positions)
        return super().take(positions) if fed is None else fed

    def in_order(self) -> Iterator[tuple[Index, Tensor]]:
        """All rows in batches of 2048, positions and tensor, read ahead by a thread."""
        if self.resident is not None:
            yield from super().in_order()
            return
        for at, x in ahead(self._part, self._parts(), depth=self.depth):
            for start in range(0, len(at), ROWS_AT_ONCE):
                part = slice(start, start + ROWS_AT_ONCE)
                yield at[part], x[part]

    def _windows(self, batches: WindowBatches, first: int) -> range:
        start = batches.parts(first)[0].window if first < len(batches) else batches.windows
        return range(start, batches.windows)

    def _load(self, batches: WindowBatches) -> Any:
        """What reads a window: its number and its rows."""
        size = blocks(self.source).size

        def load(window: int) -> tuple[int, Tensor]:
            positions = batches.positions(window)
            shape = len(positions), *self.preparation.network_shape
            found = torch.empty(shape, dtype=self.dtype, device=self.device)
            for start in range(0, len(positions), size):
                rows = self.rows[positions[start : start + size]]
                self._prepare(rows, found[start : start + size])
            return window, found

        return load


class _Feed:
    """The windows that batches are cut from, in their order."""

    loading: Iterator[tuple[int, Tensor]]

    def __init__(self, batches: WindowBatches) -> None:
        self.batches = batches
        self.loaded: dict[int, Tensor] = {}

    def take(self, positions: Index) -> Tensor | None:
        """The rows of the batch that was asked for last; None for any other positions."""
        latest = self.batches.latest
        if latest is None or latest[1] is not positions:
            return None
        parts = self.batches.parts(latest[0])
        for window in [window for window in self.loaded if window < parts[0].window]:
            del self.loaded[window]
        found = []
        for part in parts:
            while part.window not in self.loaded:
                window, rows = next(self.loading)
                if window >= parts[0].window:
                    self.loaded[window] = rows
                del rows
            found.append(self.loaded[part.window].index_select(0, torch.as_tensor(part.places)))
        return torch.cat(found) if len(found) > 1 else found[0]


class _InOrder:
    """Rows that are taken from the first to the last."""

    loading: Iterator[tuple[Index, Tensor]]

    def __init__(self) -> None:
        self.start, self.rows = 0, torch.empty(0)

    def take(self, positions: Index) -> Tensor | None:
        """The rows, where their positions are next to one another and go on from the last ones."""
        wanted, found = len(positions), len(self.rows)
        if not wanted or not self.start <= positions[0] <= self.start + found:
            return None
        first = int(positions[0])
        if int(positions[-1]) - first + 1 != wanted:
            return None
        rows = self.rows[first - self.start :]
        while len(rows) < wanted:
            at, more = next(self.loading, (positions[:0], rows))
            if not len(at):
                return None
            rows = torch.cat([rows, more]) if len(rows) else more
        self.start, self.rows = first, rows
        return rows[:wanted].clone()
