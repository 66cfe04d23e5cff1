"""Rows as prepared tensors, and the batches of an epoch decided by (seed, epoch) alone."""

import numpy as np
import torch
from torch import Tensor

from isthmus.data.prepare import Preparation
from isthmus.data.split import blocks
from isthmus.types import Array, Index, Source

RESIDENT_BYTES = 1 << 30
ROWS_AT_ONCE = 2048
"""Rows a network codes in one go when it is not training."""


class Rows:
    """Chosen rows of a source as the network's tensors; small data stay prepared in memory."""

    def __init__(
        self,
        source: Source,
        preparation: Preparation,
        rows: Index,
        *,
        weight: Array | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.source, self.preparation, self.rows = source, preparation, rows
        self.dtype, self.device = dtype, torch.device(device)
        weight = np.ones(len(rows)) if weight is None else weight
        # A weight of 2 stands for two equal rows; weights below 1 never make fewer of them.
        self.total = max(float(weight.sum()), float(len(rows)))
        self.weight = torch.as_tensor(weight / weight.mean(), dtype=dtype, device=device)
        size = len(rows) * preparation.facts.n_features * dtype.itemsize
        self.resident = self._prepare_all() if size <= RESIDENT_BYTES else None

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def take(self, positions: Index) -> Tensor:
        """(len(positions), *shape): the rows at these positions of the choice."""
        if self.resident is not None:
            return self.resident[torch.as_tensor(positions, device=self.device)]
        return self._prepare(self.rows[positions])

    def _prepare(self, rows: Index) -> Tensor:
        prepared = self.preparation.encode(self.source.read(rows), dtype=self.dtype)
        return prepared.to(self.device)

    def _prepare_all(self) -> Tensor:
        parts = [self._prepare(block) for block in blocks(self.source, self.rows)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def spread(rows: Index, most: int) -> Index:
    """At most `most` of the rows, evenly spaced, first and last included."""
    if len(rows) <= most:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, most).round().astype(int)])


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


def plain_batches(n_rows: int, batch_size: int | None = None) -> list[Index]:
    """All positions in order, in batches: of 2048 unless told."""
    batch_size = batch_size or ROWS_AT_ONCE
    positions = np.arange(n_rows)
    return [positions[start : start + batch_size] for start in range(0, n_rows, batch_size)]
