"""Missing values as a multivariate normal distribution of all features expects them.

Mean and covariance are estimated by the EM algorithm (Dempster, Laird and Rubin 1977; Little and
Rubin 2019, chapter 11). The covariance is shrunk to its diagonal by the amount that predicts
masked values best.
"""

# Shape letters: B rows in a batch, E features, M the largest number of missing values in a row.

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from isthmus.missing import filled

BATCH_ROWS = 64
"""Rows in a batch; they have similar numbers of missing values, so their matrices fit together."""

SHRINKAGES = (0.3, 0.1, 0.03, 0.01, 0.003)
"""Fractions of the covariances that are removed; each fit starts from the one before."""

EM_ROUNDS = 5
"""Rounds for each shrinkage. EM is slow if much is missing, but several shrinkages follow."""

WeightedBatches = Sequence[tuple[Tensor, Tensor]]
"""Batches of rows (B, E) and their weights (B,)."""

MaskedBatches = Iterable[tuple[Tensor, Tensor, Tensor]]
"""Batches of masked rows (B, *shape), the rows before masking, and their weights (B,)."""

MIN_VARIANCE = 1e-8
"""Smallest variance of a feature, as a fraction of the mean variance."""


@dataclass(frozen=True, kw_only=True)
class MultivariateNormal:
    """A multivariate normal distribution of rows (B, E)."""

    mean: Tensor
    """(E,)."""

    precision: Tensor
    """(E, E): the inverse of the covariance."""

    shrinkage: Tensor
    """(): the fraction of the covariances that was removed."""

    def __call__(self, x: Tensor) -> Tensor:
        """(B, E) float64: rows with missing values replaced by their conditional means."""
        exact = self.to(x.new_empty(0, dtype=torch.float64))
        batches = _similar_batches(x)
        rows = torch.cat([_conditional(exact, x[positions])[0] for positions in batches])
        return rows[torch.argsort(torch.cat(batches))]

    @classmethod
    def diagonal(cls, rows: WeightedBatches, mean: Tensor) -> Self:
        """Independent features with the given mean (E,) and the variances of `rows` around it."""
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
    def fit(
        cls, rows: WeightedBatches, mean: Tensor, masked: MaskedBatches
    ) -> "MultivariateNormal":
        """Fit to rows whose known values have the mean (E,), with the shrinkage of least error.

        Shrinkage is reduced as long as the error of the `masked` values falls.
        """
        normal: MultivariateNormal = cls.diagonal(rows, mean)
        best, minimum = normal, torch.inf
        for shrinkage in SHRINKAGES:
            start = replace(normal, shrinkage=torch.full_like(normal.shrinkage, shrinkage))
            normal = start.after_em(rows)
            error = normal._error(masked)
            if not error < minimum:
                break
            best, minimum = normal, error
        return best

    def after_em(self, rows: WeightedBatches) -> "MultivariateNormal":
        """The distribution after some rounds of EM over `rows`."""
        normal = self
        for _ in range(EM_ROUNDS):
            normal = normal.after_em_round(rows)
        return normal

    def after_em_round(self, rows: WeightedBatches) -> "MultivariateNormal":
        """The distribution after one round of EM over `rows`, in double precision."""
        size = len(self.mean)
        total, sums = self.mean.new_zeros(()), self.mean.new_zeros(size)
        squares = self.mean.new_zeros(size, size)
        for x, weight in rows:
            for positions in _similar_batches(x):
                w = weight[positions].to(self.mean)
                complete, uncertainty = _conditional(self, x[positions], w)
                centered = complete - self.mean
                total += w.sum()
                sums += w @ centered
                squares += (w[:, None] * centered).t() @ centered + uncertainty
        shift = sums / total
        covariance = squares / total - torch.outer(shift, shift)
        precision = _inverse(covariance, self.shrinkage)
        return MultivariateNormal(
            mean=self.mean + shift, precision=precision, shrinkage=self.shrinkage
        )

    def to(self, like: Tensor) -> "MultivariateNormal":
        """The same distribution in the dtype and on the device of a tensor."""
        return MultivariateNormal(
            mean=self.mean.to(like),
            precision=self.precision.to(like).contiguous(),
            shrinkage=self.shrinkage.to(like),
        )

    def _error(self, masked: MaskedBatches) -> float:
        """The weighted sum of the squared errors of masked values."""
        total = 0.0
        for x, truth, weight in masked:
            squares = (self(x.flatten(1)) - truth.flatten(1)).square()
            total += float(weight.double() @ filled(squares).sum(dim=1))
        return total


def _inverse(covariance: Tensor, shrinkage: Tensor) -> Tensor:
    inverse: Tensor = torch.linalg.inv(shrink(covariance, float(shrinkage)))
    return inverse


def shrink(covariance: Tensor, shrinkage: float) -> Tensor:
    """(E, E): the covariance shrunk to its diagonal, whose entries stay above zero."""
    diagonal = covariance.diagonal()
    minimum = MIN_VARIANCE * float(diagonal.mean()) + torch.finfo(torch.float32).tiny
    shrunk = (1 - shrinkage) * covariance
    shrunk.diagonal().copy_(diagonal.clamp(min=minimum))
    return shrunk


def _similar_batches(x: Tensor) -> tuple[Tensor, ...]:
    """Positions of rows (B, E) in batches with similar numbers of missing values."""
    return torch.split(torch.argsort(x.isnan().sum(dim=1), stable=True), BATCH_ROWS)


def _conditional(
    normal: MultivariateNormal, x: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor | float]:
    """(B, E) rows at their conditional means, and the weighted sum (E, E) of their covariances.

    With precision P, the missing values m of a row have the covariance 1 / P[m, m], and the mean
    - P[m, known] (known values) / P[m, m], as a deviation from their own mean.
    """
    missing = x.isnan()
    most = int(missing.sum(dim=1).max()) if len(x) else 0
    centered = filled(x.to(normal.mean) - normal.mean)
    if not most:
        return centered + normal.mean, 0.0
    order = torch.argsort(missing.to(torch.int8), dim=1, descending=True, stable=True)[:, :most]
    is_missing = torch.gather(missing, 1, order)
    block = normal.precision[order[:, :, None], order[:, None, :]]
    both = is_missing[:, :, None] & is_missing[:, None, :]
    block = torch.where(both, block, torch.eye(most).to(block))
    pull = torch.gather(centered @ normal.precision, 1, order) * is_missing
    inverse = torch.linalg.inv(block)
    means = -(inverse @ pull[:, :, None])[:, :, 0]
    complete = centered.scatter_add(1, order, means * is_missing) + normal.mean
    if weight is None:
        return complete, 0.0
    size = x.shape[1]
    flat = (order[:, :, None] * size + order[:, None, :]).flatten()
    covariances = (weight[:, None, None] * inverse * both).flatten()
    total = normal.mean.new_zeros(size * size).index_add(0, flat, covariances)
    return complete, total.reshape(size, size)
