"""What is missing of a row, rebuilt from the code that is most likely given what is known of it.

With a linear network this is the conditional mean of probabilistic PCA (Tipping and Bishop 1999):
codes are normal, as those of the training rows, and values stray from the reconstruction with one
variance for all. The code that rebuilds the known values best, which `transform` looks for, would
let the others stray as far as they like. How far each feature can be trusted is then told by values
that were hidden on purpose.
"""

# Shape letters: B rows in a batch, D features, K code units.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.data import Rows, align, fill, plain_batches, sampled
from isthmus.data.fill import fill_each
from isthmus.data.streams.tables import TableBlocks
from isthmus.gaps import count_known, filled, places, row_means
from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.refinement import Refinement
from isthmus.types import Facts

ROWS_TO_LEARN, ROWS_TO_TRUST, ROWS_AT_ONCE = 5000, 1024, 256
HIDDEN, ROUNDS = 0.2, 3
"""Share of the values hidden to see how far reconstructions can be trusted, and how often."""

FEW = 10
"""A feature counts for itself from about so many hidden values on."""

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
        train: Rows,
        judged: Rows,
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
        batches = list(_batches(train))
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
        floor = LEAST_VARIANCE * float(covariance.diagonal().mean()) + torch.finfo().tiny
        eye = torch.eye(len(covariance), dtype=torch.float64, device=codes.device)
        precision = torch.linalg.inv(covariance + floor * eye)
        found = {
            "location": location,
            "precision": precision,
            "metric": torch.linalg.inv(curved + precision),
            "scale": torch.tensor(scale),
        }
        return cls(**{name: value.to(codes).contiguous() for name, value in found.items()})

    def most_likely(self, network: CodeNetwork, loss: Reconstruction, x: Tensor) -> Tensor:
        """Codes (B, K) of rows (B, *shape) with gaps."""

        def sums(raw: Tensor, x: Tensor) -> Tensor:
            known = count_known(x.flatten(1), network.facts.share)
            return self.scale * known * loss.per_row_known(raw, x)

        with torch.no_grad():
            code = network.encode(x)
        return Refinement(network, sums, self.metric, self.distance)(x, code, STEPS)


@dataclass(frozen=True, kw_only=True)
class Imputer:
    """Rows with gaps to what may be missing, shrunk towards the mean row as far as is wise."""

    centre: Tensor
    """(1, *shape): the mean row."""

    trust: Tensor
    """(1, *shape): the share of a reconstruction's distance from the mean row that is kept."""

    prior: CodePrior | None
    """None where codes cannot be moved freely: then they are the encoder's."""

    def __call__(self, network: CodeNetwork, loss: Reconstruction, x: Tensor) -> Tensor:
        """(B, *shape): what stands in each place of rows (B, *shape), as far as one can tell."""
        rebuilt = self._rebuilt(network, loss, x)
        return self.centre + self.trust * (rebuilt - self.centre)

    def _rebuilt(self, network: CodeNetwork, loss: Reconstruction, x: Tensor) -> Tensor:
        with torch.no_grad():
            if self.prior is None:
                return loss.rebuilt(network.decode(network.encode(x)), x)
            return loss.rebuilt(network.decode(self.prior.most_likely(network, loss, x)), x)

    @classmethod
    def learn(
        cls,
        network: CodeNetwork,
        loss: Reconstruction,
        train: Rows,
        judged: Rows,
        metric: Tensor | None,
        *,
        centre: Tensor,
        seed: int,
    ) -> Self:
        """Learn the prior from `train`, the trust from `judged` rows, values of which are hidden.

        The trust in a feature is the slope of its hidden values on their reconstructions (both from
        the mean row), as far as there are such values, and else that of all; from 0 to 1.
        """
        prior = None
        if metric is not None and len(train) >= rows_needed(len(metric)):
            prior = CodePrior.learn(network, loss, train, judged, metric)
        plain = cls(centre=centre, trust=torch.ones_like(centre), prior=prior)
        chosen = sampled(judged, ROWS_TO_TRUST)
        generator = torch.Generator().manual_seed(seed)
        product, square = torch.zeros_like(centre), torch.zeros_like(centre)
        for positions in [*plain_batches(len(chosen), ROWS_AT_ONCE)] * ROUNDS:
            at = chosen[positions]
            x, weight = judged.take(at), judged.weight[torch.as_tensor(at)]
            hidden = places(x, HIDDEN, network.facts.sizes, generator)
            guess = plain(network, loss, x.masked_fill(hidden, torch.nan)) - centre
            guess = torch.where(hidden, guess, torch.zeros_like(guess))
            product += torch.tensordot(weight, guess * filled(x - centre), dims=1)
            square += torch.tensordot(weight, guess.square(), dims=1)
        tiny = torch.finfo(square.dtype).tiny
        slope = product.sum() / square.sum().clamp(min=tiny)
        few = FEW * square.sum() / max(HIDDEN * ROUNDS * len(chosen) * square.numel(), 1)
        trust = (product + few * slope) / (square + few).clamp(min=tiny)
        return replace(plain, trust=trust.clamp(0, 1).contiguous())

    def anew(
        self, network: CodeNetwork, loss: Reconstruction, rows: Rows, metric: Tensor | None
    ) -> Self:
        """The imputer of a network that has gone on learning, from the rows that it saw last.

        Few rows tell too little: then it stays as it is.
        """
        if len(rows) < rows_needed(network.encode(rows.take(np.arange(1))).shape[1]):
            return self
        return self.learn(network, loss, rows, rows, metric, centre=self.centre, seed=0)

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the centre by name, to be saved."""
        if self.prior is None:
            return {"trust": self.trust}
        prior = {field.name: getattr(self.prior, field.name) for field in fields(self.prior)}
        return prior | {"trust": self.trust}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], centre: Tensor, n_components: int) -> Self:
        """What `tensors` gave; ValueError where they do not fit the network."""
        square = (n_components, n_components)
        shapes: dict[str, tuple[int, ...]] = {"trust": tuple(centre.shape)}
        of_prior = {"location": square[:1], "precision": square, "metric": square, "scale": ()}
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if found not in (shapes, shapes | of_prior):
            raise ValueError(f"the imputer's tensors have the shapes {found}")
        rest = {name: tensors[name] for name in of_prior if name in tensors}
        prior = CodePrior(**rest) if rest else None
        return cls(centre=centre, trust=tensors["trust"], prior=prior)


def _noise(network: CodeNetwork, loss: Reconstruction, rows: Rows, n_components: int) -> float:
    """The mean error of a known value, as far as the code has not followed it.

    Where the K numbers of a code follow a row of D, D - K in D are left for the noise.
    """
    total, square, known, share = 0.0, 0.0, 0.0, network.facts.share
    for x, weight in _batches(rows):
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


def _batches(rows: Rows) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows (B, *shape) and their weights (B,), evenly spaced."""
    chosen = sampled(rows, ROWS_TO_LEARN)
    for positions in plain_batches(len(chosen)):
        at = chosen[positions]
        yield rows.take(at), rows.weight[torch.as_tensor(at)]


def impute(estimator: Any, X: Any) -> Any:
    """The rows of X with what a fitted Autoencoder fills in, as what X was.

    Of a table that stays on disk a pyarrow table, filled in piece by piece.
    """
    source = estimator._source(X)
    if isinstance(source, TableBlocks):
        return fill_each(align(source, estimator.preparation_.schema), estimator.impute)
    rows = estimator._rows(source)
    if estimator.imputer_ is None:
        return fill(rows.source, None)
    network, loss, decode = estimator.network_, estimator.loss_, estimator.preparation_.decode
    parts = [estimator.imputer_(network, loss, x) for x, _ in estimator._coded(rows)]
    return fill(rows.source, np.concatenate([decode(part) for part in parts]))
