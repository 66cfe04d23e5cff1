"""The imputer: several estimates of missing values, combined by weights fitted on masked values.

The network gives two estimates: the reconstruction of the MAP code (`latent_prior.py`), and that of
the row after filling it from a multivariate normal distribution (`multivariate_normal.py`). The
normal distribution gives the third. A network that reconstructs well need not impute well, since
imputation is not part of its training. Therefore values of validation rows are masked at random:
they determine the weight of each estimate in each feature, and the shrinkage to the mean
(`stacking.py`).
"""

# Shape letters: B rows in a batch, D features, K code units, J estimates of a value.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import reduce
from operator import or_
from typing import Self

import numpy as np
import torch
from torch import Tensor

from isthmus.data.loading.rows import consecutive_batches, sample_positions
from isthmus.imputation.latent_prior import MAX_FIT_ROWS, CodePrior, min_rows, weighted_batches
from isthmus.imputation.multivariate_normal import MultivariateNormal, WeightedBatches
from isthmus.imputation.stacking import ShrinkageStatistics, SufficientStatistics
from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.missing import random_mask
from isthmus.training.rows import take_rows
from isthmus.types import Index, WeightedRows

MAX_MASKED_ROWS, BATCH_ROWS = 1024, 256
MASKED_FRACTION, MIN_ROUNDS, MAX_ROUNDS = 0.2, 3, 10
"""Fraction of the values that are masked in a round, and limits of the rounds: more if rows are
few."""

MAX_NORMAL_FEATURES = 256
"""Features up to which a covariance is fitted; the time per row grows with their cube."""


class MaskedRows:
    """Validation rows with randomly masked values; iterating again repeats the same masks."""

    def __init__(
        self, rows: WeightedRows, positions: Index, sizes: Index | None, seed: int
    ) -> None:
        self.rows, self.positions, self.sizes, self.seed = rows, positions, sizes, seed
        rounds = MAX_MASKED_ROWS // max(len(positions), 1)
        self.rounds = min(max(rounds, MIN_ROUNDS), MAX_ROUNDS)

    @property
    def repeats(self) -> float:
        """The expected number of rounds in which a value is masked, given that it is in one."""
        return 1 + (self.rounds - 1) * MASKED_FRACTION

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches of masked rows (B, *shape), the rows before masking, and their weights (B,)."""
        generator = torch.Generator().manual_seed(self.seed)
        for batch in [*consecutive_batches(len(self.positions), BATCH_ROWS)] * self.rounds:
            x, weight = take_rows(self.rows, self.positions[batch])
            mask = random_mask(x, MASKED_FRACTION, self.sizes, generator)
            yield x.masked_fill(mask, torch.nan), x, weight


@dataclass(frozen=True, kw_only=True)
class Imputer:
    """Estimates the missing values of rows, shrunk to the mean row where they are uncertain."""

    centre: Tensor
    """(1, *shape): the mean row."""

    low: Tensor
    high: Tensor
    """(1, *shape) each: the range of each feature, to which estimates are clipped."""

    weights: Tensor
    """(J, *shape): the weight of each estimate, as a deviation from the mean row."""

    prior: CodePrior | None
    """The prior of the codes; None if codes cannot be refined, and the encoder's are used."""

    normal: MultivariateNormal | None
    """The distribution of rows; None for wide rows, which only the network estimates."""

    def __call__(self, network: CodeNetwork, loss: Reconstruction, x: Tensor) -> Tensor:
        """(B, *shape): the estimates of all values of rows (B, *shape)."""
        deviations = self.estimates(network, loss, x) - self.centre
        return self.centre + (self.weights[:, None] * deviations).sum(dim=0)

    @torch.no_grad()
    def estimates(self, network: CodeNetwork, loss: Reconstruction, x: Tensor) -> Tensor:
        """(J, B, *shape): the separate estimates of all values of rows (B, *shape)."""
        linear, start = [], x
        if self.normal is not None:
            means = self.normal(x.flatten(1)).reshape(x.shape).to(x)
            linear = [means.clamp(self.low, self.high)]
            start = torch.where(x.isnan(), linear[0], x)
        codes = []
        if self.prior is not None:
            codes.append(self.prior.map_code(network, loss, x, start))
        if linear or not codes:
            codes.append(network.encode(start))
        reconstructions = [loss.reconstruct(network.decode(code), x) for code in codes]
        clipped = [values.clamp(self.low, self.high) for values in reconstructions]
        return torch.stack([*clipped, *linear])

    @classmethod
    def fit(
        cls,
        network: CodeNetwork,
        loss: Reconstruction,
        train: WeightedRows,
        validation: WeightedRows,
        metric: Tensor | None,
        *,
        centre: Tensor,
        seed: int,
    ) -> Self:
        """Fit the estimates on `train`, and their weights on masked values of `validation` rows.

        The weights minimize the squared error of the masked values of a feature, as deviations from
        the mean row. They are non-negative and sum to at most 1; features with few such values use
        the weights of all features. After that, the normal distribution is updated with the
        `validation` rows.
        """
        prior = None
        if metric is not None and len(train) >= min_rows(len(metric)):
            prior = CodePrior.fit(network, loss, train, validation, metric)
        imputer = cls(
            centre=centre,
            low=torch.full_like(centre, -torch.inf),
            high=torch.full_like(centre, torch.inf),
            weights=torch.ones_like(centre),
            prior=prior,
            normal=None,
        )
        fit_positions = sample_positions(train, MAX_FIT_ROWS)
        masked_positions = sample_positions(validation, MAX_MASKED_ROWS)
        if validation is train and len(masked_positions) > 1:
            # Rows must not serve both purposes, so half of the masked ones are held out.
            masked_positions = masked_positions[1::2]
            fit_positions = np.setdiff1d(fit_positions, masked_positions)
        masked = MaskedRows(validation, masked_positions, network.facts.sizes, seed)
        fit_rows, masked_rows = _flat(train, fit_positions), _flat(validation, masked_positions)
        if centre.numel() <= MAX_NORMAL_FEATURES:
            normal = MultivariateNormal.fit(fit_rows, centre.flatten(), masked)
            imputer = replace(imputer, normal=normal)
        imputer = imputer._with_range(fit_rows)._with_weights(network, loss, masked)
        if imputer.normal is None:
            return imputer
        all_rows = [*fit_rows, *masked_rows]
        normal = imputer.normal.after_em(all_rows).to(centre)
        return replace(imputer._with_range(all_rows), normal=normal)

    def _with_weights(self, network: CodeNetwork, loss: Reconstruction, masked: MaskedRows) -> Self:
        """The same imputer with weights fitted on masked values."""

        def estimated() -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
            for x, truth, weight in masked:
                deviations = self.estimates(network, loss, x) - self.centre
                counted = x.isnan() & ~truth.isnan()
                target = (truth - self.centre).flatten(1)
                yield deviations.flatten(2), target, counted.flatten(1), weight

        # Wide rows are estimated twice, since all estimates at once might not fit in memory.
        stored = None if self.normal is None else [*estimated()]
        statistics = (SufficientStatistics.of(*batch) for batch in stored or estimated())
        weights = reduce(or_, statistics).weights()
        combined = (
            ((weights[:, None] * deviations).sum(dim=0), *rest)
            for deviations, *rest in stored or estimated()
        )
        shrinkage = reduce(or_, (ShrinkageStatistics.of(*batch) for batch in combined))
        weights = (weights * shrinkage.factor(masked.repeats)).to(self.centre)
        shape = (len(weights), *self.centre.shape[1:])
        return replace(self, weights=weights.reshape(shape).contiguous())

    def _with_range(self, rows: WeightedBatches) -> Self:
        """The same imputer with the range of the known values of rows (B, D)."""
        low = torch.stack([x.nan_to_num(torch.inf).amin(dim=0) for x, _ in rows]).amin(dim=0)
        high = torch.stack([x.nan_to_num(-torch.inf).amax(dim=0) for x, _ in rows]).amax(dim=0)
        unknown = low > high
        low = torch.where(unknown, -torch.inf, low).reshape(self.centre.shape)
        high = torch.where(unknown, torch.inf, high).reshape(self.centre.shape)
        return replace(self, low=low.to(self.centre), high=high.to(self.centre))

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the imputer by name, except `centre`; for saving."""
        tensors = {"weights": self.weights, "low": self.low, "high": self.high}
        for name in ("prior", "normal"):
            part = getattr(self, name)
            if part is not None:
                tensors |= {f"{name}.{f.name}": getattr(part, f.name) for f in fields(part)}
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], centre: Tensor, n_components: int) -> Self:
        """The imputer that `tensors` describe; ValueError if they do not fit the network."""
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        prior, normal = (any(n.startswith(p) for n in shapes) for p in ("prior.", "normal."))
        n_estimates = 1 if not normal else 3 if prior else 2
        row, square = tuple(centre.shape), (n_components, n_components)
        expected: dict[str, tuple[int, ...]] = {
            "low": row,
            "high": row,
            "weights": (n_estimates, *row[1:]),
        }
        if prior:
            expected |= {"prior.location": square[:1], "prior.scale": ()}
            expected |= {"prior.precision": square, "prior.metric": square}
        if normal:
            width = centre.numel()
            expected |= {"normal.mean": (width,), "normal.precision": (width, width)}
            expected |= {"normal.shrinkage": ()}
        if shapes != expected:
            raise ValueError(f"the imputer's tensors have the shapes {shapes}")
        return cls(
            centre=centre,
            low=tensors["low"],
            high=tensors["high"],
            weights=tensors["weights"],
            prior=CodePrior(**_part("prior.", tensors)) if prior else None,
            normal=MultivariateNormal(**_part("normal.", tensors)) if normal else None,
        )


def min_imputer_rows(centre: Tensor, n_components: int) -> int:
    """The number of rows needed to fit an imputer for rows whose mean is `centre`."""
    width = centre.numel()
    return min_rows(width if width <= MAX_NORMAL_FEATURES else n_components)


def _part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _flat(rows: WeightedRows, positions: Index) -> WeightedBatches:
    return [(x.flatten(1), weight) for x, weight in weighted_batches(rows, positions)]
