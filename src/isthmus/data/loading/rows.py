"""Rows of a source as prepared tensors, and how many of them to take at a time."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from isthmus.data.preparation.preparation import Preparation
from isthmus.data.row_numbers import AllRowsExcept, RowBlocks
from isthmus.data.source import Source
from isthmus.data.splitting.holdout import row_blocks
from isthmus.types import Array, Index, RowNumbers, WeightedRows

RESIDENT_BYTES = 1 << 30
"""Prepared rows of up to this size stay in memory: 1 GiB."""

ROWS_AT_ONCE = 2048
"""Rows per forward pass outside training."""

MOST_NUMBERS, MOST_PIXELS = 1 << 21, 1 << 18
"""Numbers per forward pass over tables, and over images and signals, which convolutions enlarge."""

INFERENCE_BATCH_ROWS = range(128, 8192)
"""The fewest and the most rows of such a pass."""


class Rows(WeightedRows):
    """Chosen rows of a source as the network's tensors; small data stay prepared in memory."""

    def __init__(
        self,
        source: Source,
        preparation: Preparation,
        rows: RowNumbers,
        *,
        weight: Array | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        resident: int | None = None,
    ) -> None:
        self.source, self.preparation, self.rows = source, preparation, rows
        self.dtype, self.device = dtype, torch.device(device)
        # A weight of 2 equals two equal rows; weights below 1 never make fewer of them.
        self.total, self.weight = float(len(rows)), self._ones()
        if weight is not None:
            self.total = max(float(weight.sum()), self.total)
            if weight.size and weight.min() < weight.max():
                self.weight = torch.as_tensor(weight / weight.mean(), dtype=dtype, device=device)
        limit = RESIDENT_BYTES if resident is None else resident
        limit = 0 if source.is_sparse else limit  # dense only for the length of a batch
        self.resident = self._prepare_all() if self.nbytes(len(rows)) <= limit else None

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def nbytes(self, count: int) -> int:
        """The bytes that `count` prepared rows take."""
        return count * self.preparation.facts.n_features * self.dtype.itemsize

    def take(self, positions: Index) -> Tensor:
        """(len(positions), *shape): the prepared rows at these positions among the chosen."""
        if self.resident is not None:
            return self.resident.index_select(0, to_device(torch.as_tensor(positions), self.device))
        return self._prepare(self.rows[positions])

    def in_order(self) -> Iterator[tuple[Index, Tensor]]:
        """All rows in batches: their positions and the tensor."""
        size = inference_batch_size(self.preparation.network_shape)
        for positions in consecutive_batches(len(self), size):
            if self.resident is not None:
                yield positions, self.resident[positions[0] : positions[-1] + 1]
            else:
                yield positions, self.take(positions)

    def _ones(self) -> Tensor:
        """A weight of 1 for each row, expanded from a single number."""
        return torch.ones(1, dtype=self.dtype, device=self.device).expand(len(self.rows))

    def _prepare(self, rows: Index, out: Tensor | None = None) -> Tensor:
        values = self.source.view(rows)
        if out is not None and out.device.type != "cpu":
            return out.copy_(self.preparation.encode(values, self.dtype))
        return self.preparation.encode(values, self.dtype, out).to(self.device)

    def _prepare_all(self) -> Tensor:
        shape = len(self.rows), *self.preparation.network_shape
        prepared, start = torch.empty(shape, dtype=self.dtype, device=self.device), 0
        for block in row_blocks(self.source, self.rows):
            self._prepare(block, prepared[start : start + len(block)])
            start += len(block)
        return prepared


def to_device(numbers: Tensor, device: torch.device) -> Tensor:
    """The numbers on a device; the copy to a GPU is asynchronous."""
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.pin_memory().to(device, non_blocking=True)


def evenly_spaced(rows: Index, most: int) -> Index:
    """At most `most` of the rows, evenly spaced; the first and the last are among them."""
    if len(rows) <= most:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, most).round().astype(int)])


def sample_positions(rows: WeightedRows, most: int) -> Index:
    """At most `most` positions, evenly spaced among the rows that are fast to read."""
    return evenly_spaced(rows.quick_positions, most)


def weight_sum(weight: Tensor) -> Tensor:
    """The sum of the weights in double precision; equal weights are not summed."""
    if weight.ndim and weight.stride() == (0,):
        return weight[0].double() * len(weight)
    return weight.double().sum()


def inference_batch_size(shape: tuple[int, ...]) -> int:
    """How many rows of this shape to pass through a network at once outside training."""
    fewest, most = INFERENCE_BATCH_ROWS.start, INFERENCE_BATCH_ROWS.stop
    numbers = MOST_NUMBERS if len(shape) == 1 else MOST_PIXELS
    return min(most, max(fewest, numbers // max(1, math.prod(shape))))


def consecutive_batches(n_rows: int, batch_size: int | None = None) -> RowBlocks:
    """All positions in order, in batches of `batch_size` (default 2048)."""
    return RowBlocks(AllRowsExcept(n_rows), batch_size or ROWS_AT_ONCE)
