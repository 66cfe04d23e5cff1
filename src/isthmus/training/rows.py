"""What a trainer has while it waits for rows, and where rows are at hand."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.data.loading.rows import sent
from isthmus.training.engines.base import Most, Steps, alike
from isthmus.types import Index, WeightedRows


class NoRows:
    """No rows at all, where a trainer waits for the next ones."""

    weight = torch.empty(0)

    def __len__(self) -> int:
        return 0

    def take(self, positions: Index) -> Tensor:
        """Nothing."""
        return torch.empty(len(positions), 0)


def nothing_ahead(batches: Sequence[Index], first: int) -> AbstractContextManager[None]:
    """Nothing to do before rows are taken."""
    del batches, first
    return nullcontext()


def batches_at_once(rows: WeightedRows, size: int, most: Most) -> int:
    """How many batches of `size` rows to take in one go, >= 1; of rows not in memory one."""
    if getattr(rows, "resident", None) is None:
        return 1
    return min(most.batches, max(1, most.nbytes // (rows.take(np.arange(1)).nbytes * size)))


def in_order(rows: WeightedRows, piece: range) -> Tensor:
    """Consecutive rows; those that lie prepared in memory as they lie there."""
    resident: Tensor | None = getattr(rows, "resident", None)
    if resident is None:
        return rows.take(np.asarray(piece))
    return resident[piece.start : piece.stop]


def as_one(batches: Sequence[Index]) -> Index:
    """The positions of some batches; of a single one the very same array.

    Rows on disk know by it that the batch is the one that they have read ahead for.
    """
    return batches[0] if len(batches) == 1 else np.concatenate(batches)


def weights_at(weight: Tensor, rows: Index) -> Tensor:
    """(len(rows),): the weights of rows; where all have the same, one number seen many times."""
    if alike(weight):
        return weight[:1].expand(len(rows))
    return weight[sent(torch.as_tensor(rows), weight.device)]


def taken(train: WeightedRows, rows: Index) -> tuple[Tensor, Tensor]:
    """The rows at these positions, and how much each counts."""
    return train.take(rows), weights_at(train.weight, rows)


def steps_on(train: WeightedRows, rows: Index, **how: Any) -> Steps:
    """Steps on the rows at these positions, with everything else as `Steps` has it."""
    resident: Tensor | None = getattr(train, "resident", None)
    if resident is None:
        return Steps(*taken(train, rows), **how)
    return Steps(resident, train.weight, at=sent(torch.as_tensor(rows), resident.device), **how)
