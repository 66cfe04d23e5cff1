"""The PCA start: principal components as the initial linear path."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from isthmus.counts import LogCounts
from isthmus.data.loading.rows import weight_sum
from isthmus.missing import filled
from isthmus.pretraining.base import Pretraining
from isthmus.types import Index, WeightedRows

EXACT_SIDE = 1500
BLOCK_ROWS, FEWEST_BLOCK_ROWS, BLOCK_VALUES = 4096, 64, 1 << 22
STRIP = 128
POWER_ITERATIONS, OVERSAMPLING = 8, 16


@dataclass(kw_only=True)
class PCA(Pretraining):
    """The linear path at the principal components, the nonlinear paths at zero.

    The estimator sets these weights itself (`CodeNetwork.start_linear`), since it compares the
    result of training with them.

    Example:
        >>> from isthmus.pretraining import PCA
        >>> PCA().to_json()
        {'type': 'PCA'}
    """


class PCASolution(NamedTuple):
    """Principal components of weighted rows, in float64.

    Example:
        >>> import torch
        >>> from isthmus.pretraining import PCASolution
        >>> solution = PCASolution(torch.eye(3), torch.tensor([3.0, 2, 1]), torch.zeros(3), 14.0)
        >>> solution.first(2).scales
        tensor([3., 2.])
    """

    components: Tensor
    """(k, D), orthonormal rows, largest variance first."""

    scales: Tensor
    """(k,): standard deviation along each component, all > 0."""

    mean: Tensor
    """(D,)."""

    total_variance: float
    """Sum of the variances of all features."""

    def first(self, n_components: int) -> "PCASolution":
        """The same with at most `n_components` components."""
        first = slice(0, n_components)
        return self._replace(components=self.components[first], scales=self.scales[first])


class _Completed(WeightedRows):
    """Rows (n, D) in double precision, with fill values for missing ones."""

    def __init__(
        self, rows: WeightedRows, fill_value: Tensor | float, seen: LogCounts | None = None
    ) -> None:
        self.rows, self.fill_value, self.weight = rows, fill_value, rows.weight
        self.seen = None if seen is None else seen.to(rows.weight.device, torch.float64)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def prefetch(self, batches: Sequence[Index], first: int = 0) -> AbstractContextManager[None]:
        """A context in which batches may be read before they are taken."""
        return self.rows.prefetch(batches, first)

    def take(self, positions: Index) -> Tensor:
        """(len(positions), D): the rows at these positions."""
        taken = self.rows.take(positions).flatten(1)
        if self.seen is None:
            return filled(taken, self.fill_value).double()
        fill_value = torch.as_tensor(self.fill_value, device=taken.device, dtype=torch.float64)
        inputs: Tensor = self.seen(taken.double(), fill_value)
        return inputs


def principal_components(
    rows: WeightedRows,
    n_components: int,
    *,
    seed: int = 0,
    fill_value: Tensor | float = 0.0,
    seen: LogCounts | None = None,
) -> PCASolution:
    """The first `n_components` principal components, or fewer if the rows span fewer dimensions.

    They are exact, by eigenvectors of the covariance or of the Gram matrix, if one of them is at
    most 1500 wide. Otherwise they are found by subspace iteration (Halko, Martinsson and Tropp
    2011).

    Parameters:
        rows: The weighted rows (n, *shape).
        n_components: The largest number of components, >= 1.
        seed: Seeds the subspace iteration.
        fill_value: Replaces missing values; a number or (D,).
        seen: Takes the logarithms of counts; the components are then those of its output.

    Example:
        >>> import torch
        >>> from isthmus.pretraining import principal_components
        >>> from isthmus.types import WeightedRows
        >>> class Rows(WeightedRows):
        ...     weight = torch.ones(4)
        ...     def __len__(self):
        ...         return 4
        ...     def take(self, positions):
        ...         return torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]])[positions]
        >>> principal_components(Rows(), 1).components.abs()
        tensor([[1., 0.]], dtype=torch.float64)
    """
    rows = _Completed(rows, fill_value, seen)
    n, width = len(rows), rows.take(np.arange(1)).shape[1]
    k = min(n_components, n, width)
    if width <= min(n, EXACT_SIDE):
        mean, total, variances, components = _from_covariance(rows, width, k)
    else:
        mean, total = _mean_and_variance(rows, width)
        if n <= EXACT_SIDE:
            variances, components = _from_gram(rows, mean, k)
        else:
            variances, components = _from_subspace(rows, mean, k, seed)
    # Smaller variances are rounding errors, of themselves or of rows far from zero.
    floor = max(1e-12 * total, 1e-28 * float(mean.square().sum()), 1e-300)
    is_positive = variances > floor
    components = _fix_signs(components[is_positive])
    return PCASolution(components, variances[is_positive].sqrt(), mean, total)


def _blocks(rows: WeightedRows, width: int) -> Iterator[tuple[Index, Tensor]]:
    """Positions and weights of rows in blocks, which are shorter for wide rows."""
    size = max(FEWEST_BLOCK_ROWS, min(BLOCK_ROWS, BLOCK_VALUES // width))
    for s in range(0, len(rows), size):
        stop = min(s + size, len(rows))
        yield np.arange(s, stop), rows.weight[s:stop]


def _centred(rows: WeightedRows, positions: Index, mean: Tensor) -> Tensor:
    return rows.take(positions) - mean


def _mean_and_variance(rows: WeightedRows, width: int) -> tuple[Tensor, float]:
    n = float(weight_sum(rows.weight))
    mean = sum(w.double() @ rows.take(p) for p, w in _blocks(rows, width)) / n
    assert isinstance(mean, Tensor)
    squares = [w.double() @ _centred(rows, p, mean).square() for p, w in _blocks(rows, width)]
    return mean, float(torch.stack(squares).sum() / n)


def _from_covariance(
    rows: WeightedRows, width: int, k: int
) -> tuple[Tensor, float, Tensor, Tensor]:
    """Mean, total variance, variances and components, in one pass over the rows."""
    device = rows.weight.device
    squares = torch.zeros(width, width, dtype=torch.float64, device=device)
    sums = torch.zeros(width, dtype=torch.float64, device=device)
    # Subtracting a mean of some rows first avoids cancellation for rows far from zero.
    offset = rows.take(next(_blocks(rows, width))[0]).mean(dim=0)
    with rows.prefetch([]):
        for positions, weight in _blocks(rows, width):
            x = _centred(rows, positions, offset)
            weighted = weight.double()[:, None] * x
            for end in range(STRIP, width + STRIP, STRIP):  # the lower triangle is enough
                strip = slice(end - STRIP, end)
                squares[strip, :end].addmm_(weighted[:, strip].t(), x[:, :end])
            sums += weighted.sum(dim=0)
    n = weight_sum(rows.weight)
    shift = sums / n
    covariance = squares / n - torch.outer(shift, shift)
    values, vectors = torch.linalg.eigh(covariance)
    total = float(covariance.diagonal().clamp(min=0).sum())
    return offset + shift, total, values.flip(0)[:k].clamp(min=0), vectors.flip(1)[:, :k].t()


def _from_gram(rows: WeightedRows, mean: Tensor, k: int) -> tuple[Tensor, Tensor]:
    root = rows.weight.double().sqrt()[:, None]
    x = root * _centred(rows, np.arange(len(rows)), mean)
    values, vectors = torch.linalg.eigh(x @ x.t() / rows.weight.double().sum())
    values, vectors = values.flip(0)[:k].clamp(min=0), vectors.flip(1)[:, :k]
    components = (x.t() @ vectors).t()
    return values, components / components.norm(dim=1, keepdim=True).clamp(min=1e-300)


def _from_subspace(rows: WeightedRows, mean: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    guess = torch.randn(len(mean), k + OVERSAMPLING, generator=generator, dtype=torch.float64)
    basis = guess.to(mean.device)
    for _ in range(POWER_ITERATIONS):
        basis, _ = torch.linalg.qr(_covariance_times(rows, mean, basis))
    small = basis.t() @ _covariance_times(rows, mean, basis)
    values, vectors = torch.linalg.eigh((small + small.t()) / 2)
    return values.flip(0)[:k].clamp(min=0), (basis @ vectors.flip(1)[:, :k]).t()


def _covariance_times(rows: WeightedRows, mean: Tensor, basis: Tensor) -> Tensor:
    product = torch.zeros_like(basis)
    for positions, weight in _blocks(rows, len(mean)):
        x = _centred(rows, positions, mean)
        product += x.t() @ (weight.double()[:, None] * (x @ basis))
    return product / weight_sum(rows.weight)


def _fix_signs(components: Tensor) -> Tensor:
    # The sign of an eigenvector is arbitrary; the largest entry is made positive.
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    return components * largest.sign()
