"""Weights of several estimates of the same values, by what the values turned out to be.

Stacked regressions (Breiman 1996): least squares with weights that are not negative. Here they add
up to 1 at most, so that what tells nothing is left at the mean.
"""

# Shape letters: J estimates, D features.

from itertools import combinations
from typing import NamedTuple, Self

import torch
from torch import Tensor

FEW = 100
"""A feature counts for itself from about so many values on."""

ROUNDING = 1e-9
"""Share of the mean square of the estimates that is added to each: some may be the same."""


class Evidence(NamedTuple):
    """Sums of products over values whose truth is known, and which were estimated."""

    among: Tensor
    """(D, J, J): of the estimates."""

    beside: Tensor
    """(D, J): of the estimates and the truth."""

    values: Tensor
    """(D,): of how many values."""

    @classmethod
    def of(cls, estimates: Tensor, truth: Tensor, counted: Tensor, weight: Tensor) -> Self:
        """From (J, B, D) estimates and (B, D) truths where `counted` (B, D); weights (B,) of rows.

        All are deviations from where a feature is left where nothing is known.
        """
        seen = torch.where(counted, estimates, torch.zeros_like(estimates)).double()
        aim = torch.where(counted, truth, torch.zeros_like(truth)).double()
        weighted = weight.double()[:, None] * seen
        return cls(
            torch.einsum("ibd,jbd->dij", weighted, seen),
            torch.einsum("ibd,bd->di", weighted, aim),
            counted.double().sum(dim=0),
        )

    def __or__(self, other: "Evidence") -> "Evidence":
        """Both together."""
        return Evidence(*(a + b for a, b in zip(self, other, strict=True)))

    def weights(self) -> Tensor:
        """(J, D): of each estimate in each feature; those of few values are near those of all."""
        among, beside = self.among.sum(dim=0), self.beside.sum(dim=0)
        shared = convex_weights(among[None], beside[None])[0]
        usual = FEW * among / self.values.sum().clamp(min=1)
        return convex_weights(self.among + usual, self.beside + usual @ shared).t()


class Certainty(NamedTuple):
    """Sums over values whose truth is known, of what was expected of them."""

    square: Tensor
    """(D,): of the squares of what was expected."""

    noise: Tensor
    """(D,): of these times the squared errors."""

    @classmethod
    def of(cls, expected: Tensor, truth: Tensor, counted: Tensor, weight: Tensor) -> Self:
        """From (B, D) expectations and truths where `counted` (B, D); weights (B,) of rows."""
        seen = torch.where(counted, expected, torch.zeros_like(expected)).double().square()
        error = torch.where(counted, expected - truth, torch.zeros_like(expected)).double()
        w = weight.double()
        return cls(w @ seen, w.square() @ (seen * error.square()))

    def __or__(self, other: "Certainty") -> "Certainty":
        """Both together."""
        return Certainty(self.square + other.square, self.noise + other.noise)

    def kept(self, times: float) -> Tensor:
        """(D,): the share of what is expected that is kept, 1 / (1 + v), from 0 to 1.

        v is the variance of the slope of the truths on what was expected, estimated without the
        errors being alike (White 1980): of a feature with a few odd values little is sure. Where
        slopes are drawn around 0 with a mean square of 1, that share of what was found is the
        slope to be expected. `times` is how often the same value comes again where it comes.
        """
        known = self.square.square()
        return known / (known + times * self.noise).clamp(min=torch.finfo(torch.float32).tiny)


def convex_weights(among: Tensor, beside: Tensor) -> Tensor:
    """(D, J): w >= 0 with a sum of at most 1 where w' among w - 2 w' beside is least.

    The least lies on some face of that simplex, where it is that of a linear system: all faces are
    looked at, 2^(J + 1) - 2 and the point 0, which is well for a few estimates.
    """
    size = among.shape[1]
    scale = among.diagonal(dim1=1, dim2=2).mean(dim=1) + torch.finfo(torch.float32).tiny
    eye = torch.eye(size, dtype=among.dtype, device=among.device)
    among = among + ROUNDING * scale[:, None, None] * eye
    best, least = torch.zeros_like(beside), torch.zeros_like(beside[:, 0])
    for face in (list(f) for n in range(1, size + 1) for f in combinations(range(size), n)):
        inverse = torch.linalg.inv(among[:, face][:, :, face])
        free = (inverse @ beside[:, face, None])[..., 0]
        ones = inverse.sum(dim=2)
        excess = (free.sum(dim=1) - 1) / ones.sum(dim=1)
        for found in (free, free - excess[:, None] * ones):
            weights = torch.zeros_like(beside)
            weights[:, face] = found
            value = ((among @ weights[..., None])[..., 0] - 2 * beside).mul(weights).sum(dim=1)
            within = (found >= 0).all(dim=1) & (found.sum(dim=1) <= 1 + ROUNDING)
            better = within & (value < least)
            best = torch.where(better[:, None], weights, best)
            least = torch.where(better, value, least)
    return best
