"""What a trainer has while it waits for rows, and where rows are at hand."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from isthmus.data.batches import sent
from isthmus.types import Index, WeightedRows

MOST_BATCHES = 64
MOST_BYTES = {"cpu": 1 << 20, "cuda": 1 << 28}
"""Of rows that are taken in one go: so many as a cache holds, or as a GPU copies in a moment."""


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


def batches_at_once(rows: WeightedRows, size: int) -> int:
    """How many batches of `size` rows to take in one go, >= 1: so many as 1 MiB holds, or 64.

    On a GPU 256 MiB. Of rows that are not prepared in memory one.
    """
    if getattr(rows, "resident", None) is None:
        return 1
    one = rows.take(np.arange(1))
    most = MOST_BYTES.get(one.device.type, MOST_BYTES["cpu"])
    return min(MOST_BATCHES, max(1, most // (one.nbytes * size)))


def as_one(batches: Sequence[Index]) -> Index:
    """The positions of some batches; of a single one the very same array.

    Rows on disk know by it that the batch is the one that they have read ahead for.
    """
    return batches[0] if len(batches) == 1 else np.concatenate(batches)


def weights_at(weight: Tensor, rows: Index) -> Tensor:
    """(len(rows),): the weights of rows; where all have the same, one number seen many times."""
    if weight.stride(0) == 0:
        return weight[:1].expand(len(rows))
    return weight[sent(torch.as_tensor(rows), weight.device)]
