"""A normal prior of the codes, for maximum a posteriori (MAP) codes of rows with missing values.

For a linear network, the MAP code reconstructs the conditional mean of probabilistic PCA (Tipping
and Bishop 1999): codes are normally distributed, and values deviate from the reconstruction with
one variance. A code fitted to the known values alone, as `transform` computes it, would leave the
missing values unconstrained.
"""

# Shape letters: B rows in a batch, n rows in all, D features, K code units.

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from isthmus.data.loading.rows import consecutive_batches, sample_positions
from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.missing import count_known, row_means
from isthmus.refinement import Refinement
from isthmus.training.rows import take_rows
from isthmus.types import Facts, Index, WeightedRows

MAX_FIT_ROWS = 5000

REFINEMENT_STEPS = 20
"""More steps change the error of masked values by less than a hundredth."""

MIN_VARIANCE = 1e-6
"""Fraction of the mean variance of the codes that is added in all directions."""

ROWS_PER_DIMENSION = 5
"""Rows per dimension of the code that are needed to estimate its covariance."""

MIN_NOISE = 1e-4
"""Smallest noise variance, as a fraction of the mean square of known values."""

MIN_FREE_DIMENSIONS = 0.5
"""Dimensions left for the noise if the code has as many numbers as the row."""


@dataclass(frozen=True, kw_only=True)
class CodePrior:
    """A normal distribution of the codes, and the scale of the likelihood of a row."""

    location: Tensor
    """(K,): the mean of the codes."""

    precision: Tensor
    """(K, K): the inverse of the codes' covariance."""

    metric: Tensor
    """(K, K): the inverse of the mean Hessian of `distance` plus the scaled loss."""

    scale: Tensor
    """(): the factor from the sum of a row's errors to a negative log-likelihood in nats."""

    def distance(self, code: Tensor) -> Tensor:
        """(B,): the negative log-density of codes (B, K), up to a constant."""
        centered = code - self.location
        return ((centered @ self.precision) * centered).sum(dim=1) / 2

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        network: CodeNetwork,
        loss: Reconstruction,
        train: WeightedRows,
        validation: WeightedRows,
        metric: Tensor,
    ) -> Self:
        """Fit the prior to the codes of `train`, and the noise to the errors of `validation` rows.

        `metric` (K, K) is that of a Refinement. The encoder replaces missing values by the mean, so
        its codes of incomplete rows are too close together. They are the start of one round of EM:
        the result has the mean of the MAP codes, and their covariance plus that of the posterior.
        """
        facts = network.facts
        size = len(facts.columns or range(facts.n_features))
        noise = 1 / 2 if loss.IS_LIKELIHOOD else _noise(network, loss, validation, len(metric))
        scale = 1 / (2 * noise)
        hessian = scale * size * torch.linalg.inv(metric.double())
        batches = list(weighted_batches(train, sample_positions(train, MAX_FIT_ROWS)))
        weight = torch.cat([weight for _, weight in batches])
        codes = torch.cat([network.encode(x) for x, _ in batches])
        prior = cls._from_codes(codes, weight, torch.zeros_like(hessian), hessian, scale)
        counts = torch.cat([count_known(x.flatten(1), facts.share) for x, _ in batches]).double()
        known_fraction = (counts @ weight.double()) / (weight.double().sum() * size)
        posterior = torch.linalg.inv(known_fraction * hessian + prior.precision.double())
        codes = torch.cat([prior.map_code(network, loss, x) for x, _ in batches])
        return cls._from_codes(codes, weight, posterior, hessian, scale)

    @classmethod
    def _from_codes(
        cls, codes: Tensor, weight: Tensor, posterior: Tensor, hessian: Tensor, scale: float
    ) -> Self:
        """The prior of codes (n, K) that have the covariance `posterior` (K, K) each.

        `hessian` (K, K) is the mean Hessian of a row's negative log-likelihood in its code.
        """
        fraction = weight.double()[:, None] / weight.double().sum()
        location = (fraction * codes.double()).sum(dim=0)
        centered = codes.double() - location
        covariance = (fraction * centered).t() @ centered + posterior
        tiny = torch.finfo(torch.float32).tiny
        floor = MIN_VARIANCE * float(covariance.diagonal().mean()) + tiny
        eye = torch.eye(len(covariance), dtype=torch.float64, device=codes.device)
        precision = torch.linalg.inv(covariance + floor * eye)
        tensors = {
            "location": location,
            "precision": precision,
            "metric": torch.linalg.inv(hessian + precision),
            "scale": torch.tensor(scale, dtype=torch.float64),
        }
        return cls(**{name: value.to(codes).contiguous() for name, value in tensors.items()})

    def map_code(
        self, network: CodeNetwork, loss: Reconstruction, x: Tensor, start: Tensor | None = None
    ) -> Tensor:
        """(B, K): the MAP codes of rows (B, *shape) with missing values.

        The search starts from the encoder's codes of `start` (B, *shape), the same rows with
        missing values filled, or of the rows themselves.
        """

        def likelihood(raw: Tensor, x: Tensor) -> Tensor:
            counts = count_known(x.flatten(1), network.facts.share)
            return self.scale * counts * loss.per_row_known(raw, x)

        with torch.no_grad():
            code = network.encode(x if start is None else start)
        refinement = Refinement(network, likelihood, self.metric, self.distance)
        return refinement(x, code, REFINEMENT_STEPS)


def _noise(
    network: CodeNetwork, loss: Reconstruction, rows: WeightedRows, n_components: int
) -> float:
    """The variance of known values around the reconstruction, corrected for degrees of freedom.

    The K numbers of a code leave D - K of the D numbers in a row for the noise.
    """
    total, square, count, share = 0.0, 0.0, 0.0, network.facts.share
    for x, weight in weighted_batches(rows, sample_positions(rows, MAX_FIT_ROWS)):
        counts = weight.double() * count_known(x.flatten(1), share)
        total += float(counts @ loss.per_row_known(network(x).reconstruction, x).double())
        square += float(counts @ row_means(x.double().square(), share))
        count += float(counts.sum())
    size = degrees_of_freedom(network.facts)
    free = max(size - n_components, MIN_FREE_DIMENSIONS)
    noise = max(total * size / free, MIN_NOISE * square) / max(count, 1.0)
    return max(noise, torch.finfo(torch.float32).tiny)


def degrees_of_freedom(facts: Facts) -> int:
    """The free numbers in a row; the last one-hot feature of a column follows from the others."""
    dependent = sum(c.likelihood == "categorical" and c.size > 1 for c in facts.columns or ())
    return facts.n_features - dependent


def min_rows(dimensions: int) -> int:
    """The number of rows needed to estimate a covariance of so many dimensions."""
    return ROWS_PER_DIMENSION * dimensions


def weighted_batches(rows: WeightedRows, positions: Index) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the rows (B, *shape) at these positions, and their weights (B,)."""
    for batch in consecutive_batches(len(positions)):
        yield take_rows(rows, positions[batch])
