"""Rows that stay on disk as the network's tensors, a few windows of which are in memory."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager

import numpy as np
import torch
from torch import Tensor

from isthmus.data.loading.rows import ROWS_AT_ONCE, Rows
from isthmus.data.loading.shuffle import WindowBatches
from isthmus.data.on_disk import ChunkedSource
from isthmus.data.prefetch import prefetch
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.row_numbers import AllRowsExcept, RowBlocks
from isthmus.data.splitting.holdout import row_blocks
from isthmus.types import Index

SAMPLE_ROWS = 8192
"""Evenly spaced rows that stand for all of them if none are in memory."""

WINDOWS_AHEAD = 1
"""Windows that are read ahead of the one in use."""

RESIDENT_BYTES = 1 << 26
"""Prepared rows of up to this size stay in memory even if their source is on disk: 64 MiB."""

WindowRows = tuple[int, Tensor]
"""The number of a window, and its prepared rows."""

BlockRows = tuple[Index, Tensor]
"""The positions of consecutive rows, and these rows prepared."""


class StreamedRows(Rows):
    """All rows of a source on disk except a few, with equal weights."""

    source: ChunkedSource
    rows: AllRowsExcept

    def __init__(
        self,
        source: ChunkedSource,
        preparation: Preparation,
        rows: AllRowsExcept,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        depth: int = WINDOWS_AHEAD,
    ) -> None:
        super().__init__(
            source, preparation, rows, dtype=dtype, device=device, resident=RESIDENT_BYTES
        )
        self.depth = depth
        self._loaded: _LoadedWindows | _LoadedBlocks | None = None

    @property
    def quick_positions(self) -> Index:
        """Positions of the rows in memory, or of evenly spaced rows if none are."""
        if self.resident is not None:
            return np.arange(len(self))
        cached = self.source.cached_rows
        if not len(cached):
            count = min(len(self), SAMPLE_ROWS)
            return np.linspace(0, len(self) - 1, count).round().astype(np.intp)
        return self.rows.positions(cached[~np.isin(cached, self.rows.left_out)])

    def in_memory(self) -> Rows:
        """The rows at `quick_positions` as prepared rows in memory."""
        chosen = self.rows[self.quick_positions]
        return Rows(self.source, self.preparation, chosen, dtype=self.dtype, device=self.device)

    def batches(self, size: int, *, seed: int, epoch: int) -> Sequence[Index]:
        """The positions of each batch of an epoch; see `WindowBatches`."""
        return WindowBatches(self.source, self.rows, size, seed=seed, epoch=epoch)

    @contextmanager
    def prefetch(self, batches: Sequence[Index], first: int = 0) -> Iterator[None]:
        """A context in which threads read the rows of batch number `first` and later ones."""
        if self.resident is not None:
            yield
            return
        loaded: _LoadedWindows | _LoadedBlocks
        if isinstance(batches, WindowBatches):
            windows = self._windows(batches, first)
            loading = prefetch(self._window_loader(batches), windows, depth=self.depth)
            loaded = _LoadedWindows(batches, loading)
        else:
            blocks = prefetch(self._load_block, self._consecutive_blocks(), depth=self.depth)
            loaded = _LoadedBlocks(blocks)
        with closing(loaded.loading):
            self._loaded = loaded
            try:
                yield
            finally:
                self._loaded = None

    def take(self, positions: Index) -> Tensor:
        """(len(positions), *shape): the rows at these positions."""
        loaded = None if self._loaded is None else self._loaded.take(positions)
        return super().take(positions) if loaded is None else loaded

    def in_order(self) -> Iterator[tuple[Index, Tensor]]:
        """All rows in batches of 2048, positions and tensor, read ahead by a thread."""
        if self.resident is not None:
            yield from super().in_order()
            return
        for positions, x in prefetch(
            self._load_block, self._consecutive_blocks(), depth=self.depth
        ):
            for start in range(0, len(positions), ROWS_AT_ONCE):
                part = slice(start, start + ROWS_AT_ONCE)
                yield positions[part], x[part]

    def _consecutive_blocks(self) -> RowBlocks:
        """All positions in order, in blocks of about the size of a chunk."""
        size = max(1, row_blocks(self.source).size // ROWS_AT_ONCE) * ROWS_AT_ONCE
        return RowBlocks(AllRowsExcept(len(self)), size)

    def _load_block(self, positions: Index) -> BlockRows:
        return positions, super().take(positions)

    def _windows(self, batches: WindowBatches, first: int) -> range:
        start = batches.parts(first)[0].window if first < len(batches) else batches.windows
        return range(start, batches.windows)

    def _window_loader(self, batches: WindowBatches) -> Callable[[int], WindowRows]:
        """A function that reads and prepares the window of a given number."""
        size = row_blocks(self.source).size

        def load(window: int) -> WindowRows:
            positions = batches.positions(window)
            shape = len(positions), *self.preparation.network_shape
            prepared = torch.empty(shape, dtype=self.dtype, device=self.device)
            for start in range(0, len(positions), size):
                rows = self.rows[positions[start : start + size]]
                self._prepare(rows, prepared[start : start + size])
            return window, prepared

        return load


class _LoadedWindows:
    """The windows that batches are cut from, in order."""

    def __init__(self, batches: WindowBatches, loading: Generator[WindowRows]) -> None:
        self.batches, self.loading = batches, loading
        self.windows: dict[int, Tensor] = {}

    def take(self, positions: Index) -> Tensor | None:
        """The rows of the batch returned last; None for any other positions."""
        latest = self.batches.latest
        if latest is None or latest[1] is not positions:
            return None
        parts = self.batches.parts(latest[0])
        for window in [window for window in self.windows if window < parts[0].window]:
            del self.windows[window]
        pieces = []
        for part in parts:
            while part.window not in self.windows:
                window, rows = next(self.loading)
                if window >= parts[0].window:
                    self.windows[window] = rows
                del rows
            pieces.append(self.windows[part.window].index_select(0, torch.as_tensor(part.rows)))
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


class _LoadedBlocks:
    """Blocks of rows that are taken from first to last."""

    def __init__(self, loading: Generator[BlockRows]) -> None:
        self.loading = loading
        self.start, self.rows = 0, torch.empty(0)

    def take(self, positions: Index) -> Tensor | None:
        """The rows if their positions are consecutive and continue the last ones, else None."""
        wanted, available = len(positions), len(self.rows)
        if not wanted or not self.start <= positions[0] <= self.start + available:
            return None
        first = int(positions[0])
        if int(positions[-1]) - first + 1 != wanted:
            return None
        rows = self.rows[first - self.start :]
        while len(rows) < wanted:
            loaded, more = next(self.loading, (positions[:0], rows))
            if not len(loaded):
                return None
            rows = torch.cat([rows, more]) if len(rows) else more
        self.start, self.rows = first, rows
        return rows[:wanted].clone()
