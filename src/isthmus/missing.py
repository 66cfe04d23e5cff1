"""Gaps: missing values, which are NaN wherever a row is numbers."""

# Shape letters: B rows in a batch, D features.

import numpy as np
import torch
from torch import Tensor

from isthmus.types import Array, Index

LEAST_SHARE = 0.5
"""A row of nothing has no mean; one of anything has at least one column of it."""


def filled(x: Tensor, value: Tensor | float = 0.0) -> Tensor:
    """`x` with `value`, which broadcasts to it, where it is missing."""
    fill_value = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    return torch.where(x.isnan(), fill_value, x)


def row_means(values: Tensor, share: Array | None = None) -> Tensor:
    """(B,): the mean of what is known in each row of (B, ...); 0 where nothing is.

    `share` (D,) is how much of its column each value is, where several make one; it is the mean
    over columns then, each of which counts with the sum of its values.
    """
    flat = values.flatten(1)
    return filled(flat).sum(dim=1) / count_known(flat, share).clamp(min=LEAST_SHARE)


def count_known(values: Tensor, share: Array | None = None) -> Tensor:
    """(B,): how many values (columns, where there is a `share`) are known in each row of (B, D)."""
    known = ~values.isnan()
    if share is None:
        return known.sum(dim=1)
    return known.to(values.dtype) @ torch.as_tensor(share, dtype=values.dtype, device=values.device)


def places(
    x: Tensor, rate: float, sizes: Index | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """A boolean mask of (B, ...) values drawn at this rate, of which none is missing.

    Where there are columns of `sizes` features, all features of one are drawn together.
    """
    if sizes is None:
        drawn = torch.rand(
            x.shape, generator=generator, dtype=x.dtype, device=_device(x, generator)
        )
    else:
        shape = (len(x), len(sizes))
        drawn = torch.rand(shape, generator=generator, dtype=x.dtype, device=_device(x, generator))
        drawn = drawn.repeat_interleave(torch.as_tensor(sizes, device=drawn.device), dim=1)
    return (drawn.to(x.device) < rate) & ~x.isnan()


def _device(x: Tensor, generator: torch.Generator | None) -> torch.device:
    return x.device if generator is None else generator.device


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
