"""Gaps: missing values, which are NaN wherever a row is numbers."""

# Shape letters: B rows in a batch, D features.

import numpy as np
import torch
from torch import Tensor

from isthmus.types import Array


def filled(x: Tensor, value: Tensor | float = 0.0) -> Tensor:
    """`x` with `value`, which broadcasts to it, where it is missing."""
    stand_in = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    return torch.where(x.isnan(), stand_in, x)


def row_means(values: Tensor) -> Tensor:
    """(B,): the mean of what is known in each row of (B, ...); 0 where nothing is."""
    flat = values.flatten(1)
    known = ~flat.isnan()
    return filled(flat).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def mean_known(values: Array) -> Array:
    """(n,): the mean of what is known in each row of (n, D); 0 where nothing is."""
    sums, counts = known_sums(values.T)
    return np.asarray(sums / np.maximum(counts, 1))


def known_sums(values: Array) -> tuple[Array, Array]:
    """(D,) sums of what is known of each column of (n, D), and how many that are."""
    missing = np.isnan(values)
    if not missing.any():
        return values.sum(axis=0), np.full(values.shape[1], len(values))
    return np.where(missing, 0.0, values).sum(axis=0), (~missing).sum(axis=0)
