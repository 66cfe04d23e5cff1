"""What is missing of a row, as a normal distribution of all features expects it from the known.

Mean and covariance are those of the EM algorithm (Dempster, Laird and Rubin 1977; Little and Rubin
2019, chapter 11), the covariance drawn towards its diagonal as far as serves values that were
hidden on purpose.
"""

# Shape letters: B rows in a batch, E features, M the most that are missing of one row.

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from isthmus.missing import filled

ROWS_AT_ONCE = 64
"""Rows of which about as much is missing, and so whose matrices are about as large."""

SHRINKAGES = (0.3, 0.1, 0.03, 0.01, 0.003)
"""Shares of each covariance that may be taken away, one begun where the last ended."""

EM_ROUNDS = 5
"""With each: EM is slow where much is missing, but there are several to come."""

Weighted = Sequence[tuple[Tensor, Tensor]]
"""Rows (B, E) and their weights (B,), some at a time."""

Hidden = Iterable[tuple[Tensor, Tensor, Tensor]]
"""Rows (B, *shape) with values hidden, the same as they are, and their weights (B,)."""

LEAST_VARIANCE = 1e-8
"""Share of the mean variance below which a feature says nothing of the others."""


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """A normal distribution of rows (B, E)."""

    mean: Tensor
    """(E,)."""

    precision: Tensor
    """(E, E): the inverse of the covariance."""

    shrinkage: Tensor
    """(): the share of each covariance that was taken away."""

    def __call__(self, x: Tensor) -> Tensor:
        """(B, E) in double precision: rows, with what is missing as is expected from the known."""
        exact = self.rounded(x.new_empty(0, dtype=torch.float64))
        parts = _parts(x)
        found = torch.cat([_expected(exact, x[at])[0] for at in parts])
        return found[torch.argsort(torch.cat(parts))]

    @classmethod
    def independent(cls, rows: Weighted, mean: Tensor) -> Self:
        """Features that know nothing of each other, spread around `mean` as those of `rows`."""
        mean = mean.double()
        total, square = torch.zeros_like(mean), torch.zeros_like(mean)
        for x, weight in rows:
            w = weight.double()
            square += w @ filled(x.double() - mean).square()
            total += w @ (~x.isnan()).double()
        covariance = torch.diag(square / total.clamp(min=torch.finfo(torch.float32).tiny))
        shrinkage = mean.new_ones(())
        return cls(mean=mean, precision=_inverse(covariance, shrinkage), shrinkage=shrinkage)

    @classmethod
    def chosen(cls, rows: Weighted, mean: Tensor, hidden: Hidden) -> "Gaussian":
        """Learned from rows whose known values have this mean (E,), as suits `hidden` values.

        The covariance is drawn towards its diagonal less and less, until that would be worse.
        """
        normal: Gaussian = cls.independent(rows, mean)
        best, least = normal, torch.inf
        for share in SHRINKAGES:
            normal = replace(normal, shrinkage=torch.full_like(normal.shrinkage, share)).again(rows)
            error = normal._error(hidden)
            if not error < least:
                break
            best, least = normal, error
        return best

    def again(self, rows: Weighted) -> "Gaussian":
        """After some more rounds of EM over `rows`."""
        normal = self
        for _ in range(EM_ROUNDS):
            normal = normal.learned(rows)
        return normal

    def learned(self, rows: Weighted) -> "Gaussian":
        """After one round of EM over `rows`, in double precision."""
        size = len(self.mean)
        total, sums = self.mean.new_zeros(()), self.mean.new_zeros(size)
        squares = self.mean.new_zeros(size, size)
        for x, weight in rows:
            for at in _parts(x):
                w = weight[at].to(self.mean)
                complete, left = _expected(self, x[at], w)
                away = complete - self.mean
                total += w.sum()
                sums += w @ away
                squares += (w[:, None] * away).t() @ away + left
        shift = sums / total
        covariance = squares / total - torch.outer(shift, shift)
        precision = _inverse(covariance, self.shrinkage)
        return Gaussian(mean=self.mean + shift, precision=precision, shrinkage=self.shrinkage)

    def rounded(self, like: Tensor) -> "Gaussian":
        """The same in the dtype and on the device of a tensor."""
        return Gaussian(
            mean=self.mean.to(like),
            precision=self.precision.to(like).contiguous(),
            shrinkage=self.shrinkage.to(like),
        )

    def _error(self, hidden: Hidden) -> float:
        """The weighted sum of the squared errors of values that are hidden."""
        total = 0.0
        for gappy, truth, weight in hidden:
            off = (self(gappy.flatten(1)) - truth.flatten(1)).square()
            total += float(weight.double() @ filled(off).sum(dim=1))
        return total


def _inverse(covariance: Tensor, shrinkage: Tensor) -> Tensor:
    inverse: Tensor = torch.linalg.inv(shrunk(covariance, float(shrinkage)))
    return inverse


def shrunk(covariance: Tensor, shrinkage: float) -> Tensor:
    """(E, E): drawn towards its diagonal, of which none is quite zero."""
    diagonal = covariance.diagonal()
    least = LEAST_VARIANCE * float(diagonal.mean()) + torch.finfo(torch.float32).tiny
    kept = (1 - shrinkage) * covariance
    kept.diagonal().copy_(diagonal.clamp(min=least))
    return kept


def _parts(x: Tensor) -> tuple[Tensor, ...]:
    """Positions of rows (B, E), those of which as much is missing together."""
    return torch.split(torch.argsort(x.isnan().sum(dim=1), stable=True), ROWS_AT_ONCE)


def _expected(
    normal: Gaussian, x: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor | float]:
    """(B, E) rows with their gaps filled, and the weighted sum of what these leave open, (E, E).

    With P the precision, what is missing (m) of a row has the covariance 1 / P[m, m], and the mean
    - P[m, known] (known values) / P[m, m], from its own mean.
    """
    missing = x.isnan()
    most = int(missing.sum(dim=1).max()) if len(x) else 0
    away = filled(x.to(normal.mean) - normal.mean)
    if not most:
        return away + normal.mean, 0.0
    order = torch.argsort(missing.to(torch.int8), dim=1, descending=True, stable=True)[:, :most]
    real = torch.gather(missing, 1, order)
    block = normal.precision[order[:, :, None], order[:, None, :]]
    both = real[:, :, None] & real[:, None, :]
    block = torch.where(both, block, torch.eye(most).to(block))
    pull = torch.gather(away @ normal.precision, 1, order) * real
    inverse = torch.linalg.inv(block)
    found = -(inverse @ pull[:, :, None])[:, :, 0]
    complete = away.scatter_add(1, order, found * real) + normal.mean
    if weight is None:
        return complete, 0.0
    size = x.shape[1]
    flat = (order[:, :, None] * size + order[:, None, :]).flatten()
    open_yet = (weight[:, None, None] * inverse * both).flatten()
    left = normal.mean.new_zeros(size * size).index_add(0, flat, open_yet)
    return complete, left.reshape(size, size)
