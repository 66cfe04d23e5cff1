"""What is known of a code before its row is seen: the prior of the most likely code.

With a linear network the most likely code rebuilds the conditional mean of probabilistic PCA
(Tipping and Bishop 1999): codes are normal, as those of the training rows, and values stray from
the reconstruction with one variance for all. The code that rebuilds the known values best, which
`transform` looks for, would let the others stray as far as they like.
"""

# Shape letters: B rows in a batch, D features, K code units.

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from isthmus.data import plain_batches, sampled
from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.missing import count_known, row_means
from isthmus.refinement import Refinement
from isthmus.training.rows import taken
from isthmus.types import Facts, Index, WeightedRows

ROWS_TO_LEARN = 5000

STEPS = 20
"""Enough for the hidden values' error to stay where it is, within a hundredth."""

LEAST_VARIANCE = 1e-6
"""Share of the mean variance of the code that is added along all its directions."""

ROWS_A_NUMBER = 5
"""Of a code: from so many rows on their spread is known."""

LEAST_NOISE = 1e-4
"""Share of the mean square of known values: a code of as many numbers as the row follows it all."""

FEWEST_FREE = 0.5
"""Where a code has as many numbers as the row, so many are taken to be left for the noise."""


@dataclass(frozen=True, kw_only=True)
class CodePrior:
    """What is known of a code before its row is seen, and how much the row says beside it."""

    location: Tensor
    """(K,): the codes' mean."""

    precision: Tensor
    """(K, K): the inverse of the codes' covariance."""

    metric: Tensor
    """(K, K): the inverse of the mean curvature of `distance` and the rows' loss together."""

    scale: Tensor
    """(): what makes the sum of a row's errors a negative log-likelihood in nats."""

    def distance(self, code: Tensor) -> Tensor:
        """(B,): minus the log-density of codes (B, K), but for a constant."""
        away = code - self.location
        return ((away @ self.precision) * away).sum(dim=1) / 2

    @classmethod
    @torch.no_grad()
    def learn(
        cls,
        network: CodeNetwork,
        loss: Reconstruction,
        train: WeightedRows,
        judged: WeightedRows,
        metric: Tensor,
    ) -> Self:
        """From the codes of `train` and the errors of `judged` rows; `metric` is a Refinement's.

        The encoder takes what is missing for the mean, and so its codes of rows with gaps lie too
        near one another. They only begin: the codes' mean and covariance are those of the most
        likely codes, and of what these leave open, as in one round of EM.
        """
        facts = network.facts
        size = len(facts.columns or range(facts.n_features))
        noise = 1 / 2 if loss.IN_NATS else _noise(network, loss, judged, len(metric))
        scale = 1 / (2 * noise)
        curved = scale * size * torch.linalg.inv(metric.double())
        batches = list(weighted_batches(train, sampled(train, ROWS_TO_LEARN)))
        weight = torch.cat([weight for _, weight in batches])
        codes = torch.cat([network.encode(x) for x, _ in batches])
        prior = cls._of(codes, weight, torch.zeros_like(curved), curved, scale)
        known = torch.cat([count_known(x.flatten(1), facts.share) for x, _ in batches]).double()
        share = (known @ weight.double()) / (weight.double().sum() * size)
        left = torch.linalg.inv(share * curved + prior.precision.double())
        codes = torch.cat([prior.most_likely(network, loss, x) for x, _ in batches])
        return cls._of(codes, weight, left, curved, scale)

    @classmethod
    def _of(cls, codes: Tensor, weight: Tensor, left: Tensor, curved: Tensor, scale: float) -> Self:
        """From codes (n, K) that are known but for a covariance `left` (K, K).

        `curved` (K, K) is the mean curvature of a row's negative log-likelihood in its code.
        """
        share = weight.double()[:, None] / weight.double().sum()
        location = (share * codes.double()).sum(dim=0)
        centred = codes.double() - location
        covariance = (share * centred).t() @ centred + left
        tiny = torch.finfo(torch.float32).tiny
        floor = LEAST_VARIANCE * float(covariance.diagonal().mean()) + tiny
        eye = torch.eye(len(covariance), dtype=torch.float64, device=codes.device)
        precision = torch.linalg.inv(covariance + floor * eye)
        found = {
            "location": location,
            "precision": precision,
            "metric": torch.linalg.inv(curved + precision),
            "scale": torch.tensor(scale, dtype=torch.float64),
        }
        return cls(**{name: value.to(codes).contiguous() for name, value in found.items()})

    def most_likely(
        self, network: CodeNetwork, loss: Reconstruction, x: Tensor, start: Tensor | None = None
    ) -> Tensor:
        """Codes (B, K) of rows (B, *shape) with gaps, sought from the encoder's codes of `start`.

        `start` is (B, *shape), the same rows with their gaps filled as far as one can, or None.
        """

        def sums(raw: Tensor, x: Tensor) -> Tensor:
            known = count_known(x.flatten(1), network.facts.share)
            return self.scale * known * loss.per_row_known(raw, x)

        with torch.no_grad():
            code = network.encode(x if start is None else start)
        return Refinement(network, sums, self.metric, self.distance)(x, code, STEPS)


def _noise(
    network: CodeNetwork, loss: Reconstruction, rows: WeightedRows, n_components: int
) -> float:
    """The mean error of a known value, as far as the code has not followed it.

    Where the K numbers of a code follow a row of D, D - K in D are left for the noise.
    """
    total, square, known, share = 0.0, 0.0, 0.0, network.facts.share
    for x, weight in weighted_batches(rows, sampled(rows, ROWS_TO_LEARN)):
        counts = weight.double() * count_known(x.flatten(1), share)
        total += float(counts @ loss.per_row_known(network(x).reconstruction, x).double())
        square += float(counts @ row_means(x.double().square(), share))
        known += float(counts.sum())
    size = degrees_of_freedom(network.facts)
    free = max(size - n_components, FEWEST_FREE)
    noise = max(total * size / free, LEAST_NOISE * square) / max(known, 1.0)
    return max(noise, torch.finfo(torch.float32).tiny)


def degrees_of_freedom(facts: Facts) -> int:
    """How many numbers a row is: the last level of a category follows from the others."""
    tied = sum(c.likelihood == "categorical" and c.size > 1 for c in facts.columns or ())
    return facts.n_features - tied


def rows_needed(n_components: int) -> int:
    """How many rows tell where codes of so many numbers lie."""
    return ROWS_A_NUMBER * n_components


def weighted_batches(rows: WeightedRows, chosen: Index) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows (B, *shape) at the `chosen` positions and their weights (B,)."""
    for positions in plain_batches(len(chosen)):
        yield taken(rows, chosen[positions])
