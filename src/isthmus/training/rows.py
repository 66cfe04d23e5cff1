"""Access to training rows: batches in memory or on disk, and a stand-in without rows."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.data.loading.rows import to_device
from isthmus.training.engines.base import BatchLimit, StepBatch, equal_weights
from isthmus.types import Index, WeightedRows


class NoRows(WeightedRows):
    """The rows of a trainer that waits for its data."""

    weight = torch.empty(0)

    def __len__(self) -> int:
        return 0

    def take(self, positions: Index) -> Tensor:
        """An empty tensor per row."""
        return torch.empty(len(positions), 0)


def no_read_ahead(batches: Sequence[Index], first: int) -> AbstractContextManager[None]:
    """A context that reads nothing in advance."""
    del batches, first
    return nullcontext()


def batches_per_call(rows: WeightedRows, size: int, limit: BatchLimit) -> int:
    """The number of batches of `size` rows to hand to an engine per call; 1 for rows on disk."""
    if rows.resident is None:
        return 1
    return min(limit.batches, max(1, limit.nbytes // (rows.take(np.arange(1)).nbytes * size)))


def consecutive_rows(rows: WeightedRows, piece: range) -> Tensor:
    """Consecutive rows; a view if they are prepared in memory."""
    if rows.resident is None:
        return rows.take(np.asarray(piece))
    return rows.resident[piece.start : piece.stop]


def concatenate_batches(batches: Sequence[Index]) -> Index:
    """The positions of several batches; for a single batch the same array object.

    Rows on disk recognise by identity the batch that they have read in advance.
    """
    return batches[0] if len(batches) == 1 else np.concatenate(batches)


def weights_of(weight: Tensor, rows: Index) -> Tensor:
    """(len(rows),): the weights of some rows; an expanded scalar if all weights are equal."""
    if equal_weights(weight):
        return weight[:1].expand(len(rows))
    return weight[to_device(torch.as_tensor(rows), weight.device)]


def take_rows(train: WeightedRows, rows: Index) -> tuple[Tensor, Tensor]:
    """The rows at some positions, and their weights."""
    return train.take(rows), weights_of(train.weight, rows)


def step_batch(train: WeightedRows, rows: Index, **fields: Any) -> StepBatch:
    """Steps on the rows at some positions; `fields` are the other fields of `StepBatch`."""
    resident = train.resident
    if resident is None:
        return StepBatch(*take_rows(train, rows), **fields)
    positions = to_device(torch.as_tensor(rows), resident.device)
    return StepBatch(resident, train.weight, positions=positions, **fields)
