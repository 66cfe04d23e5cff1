"""Missing values, which are NaN in numeric rows: masks, fill values and means without them."""

# Shape letters: B rows in a batch, D features, n rows.

import numpy as np
import torch
from torch import Tensor

from isthmus.types import Array, Index

LEAST_SHARE = 0.5
"""Avoids division by zero: a row with any value has a column of at least this share."""


def filled(x: Tensor, value: Tensor | float = 0.0) -> Tensor:
    """`x` with its missing values replaced by `value`, which broadcasts to it."""
    fill_value = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    return torch.where(x.isnan(), fill_value, x)


def row_means(values: Tensor, share: Array | None = None) -> Tensor:
    """(B,): the mean of the present values in each row of (B, ...); 0 for an empty row.

    `share` (D,) is the share of its column that each value is, if a column is several values. The
    mean is then over columns, each of which counts with the sum of its values.
    """
    flat = values.flatten(1)
    return filled(flat).sum(dim=1) / count_known(flat, share).clamp(min=LEAST_SHARE)


def count_known(values: Tensor, share: Array | None = None) -> Tensor:
    """(B,): the number of present values (columns, with a `share`) in each row of (B, D)."""
    known = ~values.isnan()
    if share is None:
        return known.sum(dim=1)
    return known.to(values.dtype) @ torch.as_tensor(share, dtype=values.dtype, device=values.device)


def random_mask(
    x: Tensor, rate: float, sizes: Index | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """A boolean mask of (B, ...) that selects each present value with probability `rate`.

    With the `sizes` of columns in features, all features of a column are selected together.
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
    """(n,): the mean of the present values in each row of (n, D); 0 for an empty row."""
    sums, counts = known_sums(values.T)
    return np.asarray(sums / np.maximum(counts, 1))


def known_sums(values: Array) -> tuple[Array, Array]:
    """(D,) each: the sum and the number of the present values in each column of (n, D)."""
    missing = np.isnan(values)
    if not missing.any():
        return values.sum(axis=0), np.full(values.shape[1], len(values))
    return np.where(missing, 0.0, values).sum(axis=0), (~missing).sum(axis=0)
