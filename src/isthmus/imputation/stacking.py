"""Stacking: weights that combine several estimates of the same values.

Stacked regressions (Breiman 1996): least squares with non-negative weights. Here the weights sum to
at most 1, so that uninformative estimates leave a value at the mean.
"""

# Shape letters: J estimates, B rows in a batch, D features.

from itertools import combinations
from typing import NamedTuple, Self

import torch
from torch import Tensor

POOLED_VALUES = 100
"""The weights of all features together count as so many values in the weights of each feature."""

RIDGE = 1e-9
"""Fraction of the mean square of the estimates that is added to each: estimates may be equal."""


class SufficientStatistics(NamedTuple):
    """Sums over known values that determine the least-squares weights of their estimates."""

    gram: Tensor
    """(D, J, J): products of pairs of estimates."""

    cross: Tensor
    """(D, J): products of estimates and true values."""

    n_values: Tensor
    """(D,): the number of values."""

    @classmethod
    def of(cls, estimates: Tensor, truth: Tensor, counted: Tensor, weight: Tensor) -> Self:
        """The sums for (J, B, D) estimates and (B, D) true values, as deviations from the mean.

        Only values `counted` (B, D) enter. `weight` (B,) are those of the rows.
        """
        included = torch.where(counted, estimates, torch.zeros_like(estimates)).double()
        target = torch.where(counted, truth, torch.zeros_like(truth)).double()
        weighted = weight.double()[:, None] * included
        return cls(
            torch.einsum("ibd,jbd->dij", weighted, included),
            torch.einsum("ibd,bd->di", weighted, target),
            counted.double().sum(dim=0),
        )

    def __or__(self, other: "SufficientStatistics") -> "SufficientStatistics":
        """The sums over both sets of values."""
        return SufficientStatistics(*(a + b for a, b in zip(self, other, strict=True)))

    def weights(self) -> Tensor:
        """(J, D): the weight of each estimate in each feature, partly pooled over features."""
        gram, cross = self.gram.sum(dim=0), self.cross.sum(dim=0)
        pooled = convex_weights(gram[None], cross[None])[0]
        prior = POOLED_VALUES * gram / self.n_values.sum().clamp(min=1)
        return convex_weights(self.gram + prior, self.cross + prior @ pooled).t()


class ShrinkageStatistics(NamedTuple):
    """Sums over known values that determine how far their estimates are shrunk to the mean."""

    square: Tensor
    """(D,): squared estimates."""

    noise: Tensor
    """(D,): squared estimates times squared errors."""

    @classmethod
    def of(cls, estimates: Tensor, truth: Tensor, counted: Tensor, weight: Tensor) -> Self:
        """The sums for (B, D) estimates and true values; see `SufficientStatistics.of`."""
        included = torch.where(counted, estimates, torch.zeros_like(estimates)).double().square()
        error = torch.where(counted, estimates - truth, torch.zeros_like(estimates)).double()
        w = weight.double()
        return cls(w @ included, w.square() @ (included * error.square()))

    def __or__(self, other: "ShrinkageStatistics") -> "ShrinkageStatistics":
        """The sums over both sets of values."""
        return ShrinkageStatistics(self.square + other.square, self.noise + other.noise)

    def factor(self, repeats: float) -> Tensor:
        """(D,): the shrinkage factor 1 / (1 + v) of the estimates, in [0, 1].

        v is the variance of the slope of true values on estimates. It does not assume equal error
        variances (White 1980), so that a feature with a few outliers gets a small factor. If slopes
        have the prior mean square 1 around 0, the factor is their posterior mean. `repeats` is how
        often each value enters the sums.
        """
        precision = self.square.square()
        total = precision + repeats * self.noise
        return precision / total.clamp(min=torch.finfo(torch.float32).tiny)


def convex_weights(gram: Tensor, cross: Tensor) -> Tensor:
    """(D, J): the minimizer of w' gram w - 2 w' cross over w >= 0 with a sum of at most 1.

    The minimum is on a face of this simplex, where it solves a linear system. All 2^(J + 1) - 2
    faces and the point 0 are tried, which is cheap for a few estimates.
    """
    size = gram.shape[1]
    scale = gram.diagonal(dim1=1, dim2=2).mean(dim=1) + torch.finfo(torch.float32).tiny
    eye = torch.eye(size, dtype=gram.dtype, device=gram.device)
    gram = gram + RIDGE * scale[:, None, None] * eye
    best, minimum = torch.zeros_like(cross), torch.zeros_like(cross[:, 0])
    for face in (list(f) for n in range(1, size + 1) for f in combinations(range(size), n)):
        inverse = torch.linalg.inv(gram[:, face][:, :, face])
        free = (inverse @ cross[:, face, None])[..., 0]
        ones = inverse.sum(dim=2)
        excess = (free.sum(dim=1) - 1) / ones.sum(dim=1)
        for solution in (free, free - excess[:, None] * ones):
            weights = torch.zeros_like(cross)
            weights[:, face] = solution
            value = ((gram @ weights[..., None])[..., 0] - 2 * cross).mul(weights).sum(dim=1)
            feasible = (solution >= 0).all(dim=1) & (solution.sum(dim=1) <= 1 + RIDGE)
            better = feasible & (value < minimum)
            best = torch.where(better[:, None], weights, best)
            minimum = torch.where(better, value, minimum)
    return best
