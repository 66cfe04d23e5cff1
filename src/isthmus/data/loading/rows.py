"""Rows as prepared tensors, and the batches of an epoch decided by (seed, epoch) alone."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from isthmus.data.arrays import glance
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.row_numbers import AllBut, Pieces
from isthmus.data.splitting.holdout import blocks
from isthmus.data.subset import is_sparse
from isthmus.types import Array, Index, Numbers, Source, WeightedRows

RESIDENT_BYTES = 1 << 30
ROWS_AT_ONCE = 2048
"""Rows a network codes in one go when it is not training."""

MOST_NUMBERS, MOST_PIXELS, ROWS_IN_ORDER = 1 << 21, 1 << 18, range(128, 8192)
"""Of rows taken in order: so many numbers at a time (of images and signals, of which convolutions
make several times as many), but at least and at most so many rows."""


class Rows:
    """Chosen rows of a source as the network's tensors; small data stay prepared in memory."""

    def __init__(
        self,
        source: Source,
        preparation: Preparation,
        rows: Numbers,
        *,
        weight: Array | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        resident: int | None = None,
    ) -> None:
        self.source, self.preparation, self.rows = source, preparation, rows
        self.dtype, self.device = dtype, torch.device(device)
        # A weight of 2 stands for two equal rows; weights below 1 never make fewer of them.
        self.total, self.weight = float(len(rows)), self._ones()
        if weight is not None:
            self.total = max(float(weight.sum()), self.total)
            if weight.size and weight.min() < weight.max():
                self.weight = torch.as_tensor(weight / weight.mean(), dtype=dtype, device=device)
        most = RESIDENT_BYTES if resident is None else resident
        most = 0 if is_sparse(source) else most  # dense no longer than a batch
        self.resident = self._prepare_all() if self.nbytes(len(rows)) <= most else None

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def nbytes(self, count: int) -> int:
        """How much memory so many rows take once they are prepared."""
        return count * self.preparation.facts.n_features * self.dtype.itemsize

    @property
    def sampled(self) -> Index:
        """Positions of rows that are quick to look at: here all of them."""
        return np.arange(len(self))

    def take(self, positions: Index) -> Tensor:
        """(len(positions), *shape): the rows at these positions of the choice."""
        if self.resident is not None:
            return self.resident.index_select(0, sent(torch.as_tensor(positions), self.device))
        return self._prepare(self.rows[positions])

    def in_order(self) -> Iterator[tuple[Index, Tensor]]:
        """All rows in batches: positions and tensor."""
        for positions in plain_batches(len(self), rows_at_once(self.preparation.network_shape)):
            if self.resident is not None:
                yield positions, self.resident[positions[0] : positions[-1] + 1]
            else:
                yield positions, self.take(positions)

    def batches(self, size: int, *, seed: int, epoch: int) -> Sequence[Index]:
        """The positions of each batch of `size` rows of an epoch."""
        return epoch_batches(len(self), size, seed=seed, epoch=epoch)

    def ahead(self, batches: Sequence[Index], first: int) -> AbstractContextManager[None]:
        """While inside, what batch number `first` and those after it need may be read ahead."""
        del batches, first
        return nullcontext()

    def _ones(self) -> Tensor:
        """A weight of 1 for each row, of which only one is in memory."""
        return torch.ones(1, dtype=self.dtype, device=self.device).expand(len(self.rows))

    def _prepare(self, rows: Index, out: Tensor | None = None) -> Tensor:
        values = glance(self.source, rows)
        if out is not None and out.device.type != "cpu":
            return out.copy_(self.preparation.encode(values, self.dtype))
        return self.preparation.encode(values, self.dtype, out).to(self.device)

    def _prepare_all(self) -> Tensor:
        shape = len(self.rows), *self.preparation.network_shape
        found, start = torch.empty(shape, dtype=self.dtype, device=self.device), 0
        for block in blocks(self.source, self.rows):
            self._prepare(block, found[start : start + len(block)])
            start += len(block)
        return found


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """Numbers on a device, without waiting for it."""
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.pin_memory().to(device, non_blocking=True)


def spread(rows: Index, most: int) -> Index:
    """At most `most` of the rows, evenly spaced, first and last included."""
    if len(rows) <= most:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, most).round().astype(int)])


def sampled(rows: WeightedRows, most: int) -> Index:
    """At most `most` positions of rows, evenly spaced; of rows on disk among those in memory."""
    quick = getattr(rows, "sampled", None)
    return spread(np.arange(len(rows)) if quick is None else quick, most)


def shuffled(rows: WeightedRows, size: int, *, seed: int, epoch: int) -> Sequence[Index]:
    """The positions of each batch of `size` rows of an epoch, in an order that suits the rows."""
    own = getattr(rows, "batches", None)
    if own is None:
        return epoch_batches(len(rows), size, seed=seed, epoch=epoch)
    found: Sequence[Index] = own(size, seed=seed, epoch=epoch)
    return found


def read_ahead(
    rows: WeightedRows, batches: Sequence[Index], first: int = 0
) -> AbstractContextManager[None]:
    """While inside, the rows of `batches` from the first on may be read before they are taken."""
    own = getattr(rows, "ahead", None)
    if own is None:
        return nullcontext()
    context: AbstractContextManager[None] = own(batches, first)
    return context


def weight_sum(weight: Tensor) -> Tensor:
    """The sum of the weights in double precision; of a weight that all rows share, at no cost."""
    if weight.ndim and weight.stride() == (0,):
        return weight[0].double() * len(weight)
    return weight.double().sum()


def epoch_batches(
    n_rows: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, size: int = 1
) -> list[Index]:
    """The positions of each batch of one epoch for process `rank` of `size`.

    Every row comes exactly once over all processes; the last batch may be smaller. The order
    depends on the seed and the epoch only, so a resumed fit sees the same batches, and `size`
    processes together see the batches that one would.
    """
    order = np.random.default_rng((seed, epoch)).permutation(n_rows)
    return [order[start : start + batch_size][rank::size] for start in range(0, n_rows, batch_size)]


def rows_at_once(shape: tuple[int, ...]) -> int:
    """How many rows of this shape to take at a time.

    Enough that asking costs little, and no more than memory holds easily.
    """
    fewest, most = ROWS_IN_ORDER.start, ROWS_IN_ORDER.stop
    numbers = MOST_NUMBERS if len(shape) == 1 else MOST_PIXELS
    return min(most, max(fewest, numbers // max(1, math.prod(shape))))


def plain_batches(n_rows: int, batch_size: int | None = None) -> Pieces:
    """All positions in order, in batches: of 2048 unless told."""
    return Pieces(AllBut(n_rows), batch_size or ROWS_AT_ONCE)
