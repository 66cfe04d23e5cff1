"""What is missing of a row: several ways to expect it, weighed by values hidden on purpose.

The network expects it in two ways: by the most likely code given what is known (`code_prior.py`),
and by a round trip of the row, its gaps filled by a linear expectation (`gaussian.py`), which is
the third way. A network that rebuilds well need not fill in well, and how it fills in is no part
of its training; so rows that it has not learned from tell, values of which are hidden, how much
each way counts in each feature, and how far all are to be trusted (`mixing.py`).
"""

# Shape letters: B rows in a batch, D features, K code units, J ways to expect a value.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import reduce
from operator import or_
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.data import align, fill, plain_batches, sampled
from isthmus.data.output.fill_missing import fill_each
from isthmus.data.tables.streamed import TableBlocks
from isthmus.imputation.latent_prior import ROWS_TO_LEARN, CodePrior, rows_needed, weighted_batches
from isthmus.imputation.multivariate_normal import Gaussian, Weighted
from isthmus.imputation.stacking import Certainty, Evidence
from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.missing import random_mask
from isthmus.training.rows import taken
from isthmus.types import Index, WeightedRows

ROWS_TO_TRUST, ROWS_AT_ONCE = 1024, 256
HIDDEN, FEWEST_ROUNDS, MOST_ROUNDS = 0.2, 3, 10
"""Share of the values that are hidden, and how often: oftener where rows are few."""

WIDEST_ROW = 256
"""Features up to which a covariance is learned; the time a row takes grows with their cube."""


class Hidden:
    """Rows with values hidden, the same as they are, and their weights; the same each time."""

    def __init__(self, rows: WeightedRows, chosen: Index, sizes: Index | None, seed: int) -> None:
        self.rows, self.chosen, self.sizes, self.seed = rows, chosen, sizes, seed
        rounds = ROWS_TO_TRUST // max(len(chosen), 1)
        self.rounds = min(max(rounds, FEWEST_ROUNDS), MOST_ROUNDS)

    @property
    def times(self) -> float:
        """How often a value is hidden, on the average over all times that one is."""
        return 1 + (self.rounds - 1) * HIDDEN

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(B, *shape) rows with values hidden, the same as they are, and their weights (B,)."""
        generator = torch.Generator().manual_seed(self.seed)
        for positions in [*plain_batches(len(self.chosen), ROWS_AT_ONCE)] * self.rounds:
            x, weight = taken(self.rows, self.chosen[positions])
            missing = random_mask(x, HIDDEN, self.sizes, generator)
            yield x.masked_fill(missing, torch.nan), x, weight


@dataclass(frozen=True, kw_only=True)
class Imputer:
    """Rows with gaps to what may be missing, shrunk towards the mean row as far as is wise."""

    centre: Tensor
    """(1, *shape): the mean row."""

    low: Tensor
    high: Tensor
    """(1, *shape) each: the range of each feature in the rows, which nothing filled in leaves."""

    weights: Tensor
    """(J, *shape): how much of each expectation's distance from the mean row is kept."""

    prior: CodePrior | None
    """None where codes cannot be moved freely: then they are the encoder's."""

    normal: Gaussian | None
    """None where rows are wide: then nothing is expected but by the network."""

    def __call__(self, network: CodeNetwork, loss: Reconstruction, x: Tensor) -> Tensor:
        """(B, *shape): what stands in each place of rows (B, *shape), as far as one can tell."""
        away = self.expectations(network, loss, x) - self.centre
        return self.centre + (self.weights[:, None] * away).sum(dim=0)

    @torch.no_grad()
    def expectations(self, network: CodeNetwork, loss: Reconstruction, x: Tensor) -> Tensor:
        """(J, B, *shape): what each way expects in each place of rows (B, *shape)."""
        linear, start = [], x
        if self.normal is not None:
            expected = self.normal(x.flatten(1)).reshape(x.shape).to(x)
            linear = [expected.clamp(self.low, self.high)]
            start = torch.where(x.isnan(), linear[0], x)
        codes = []
        if self.prior is not None:
            codes.append(self.prior.most_likely(network, loss, x, start))
        if linear or not codes:
            codes.append(network.encode(start))
        rebuilt = [loss.rebuilt(network.decode(code), x) for code in codes]
        within = [values.clamp(self.low, self.high) for values in rebuilt]
        return torch.stack([*within, *linear])

    @classmethod
    def learn(
        cls,
        network: CodeNetwork,
        loss: Reconstruction,
        train: WeightedRows,
        judged: WeightedRows,
        metric: Tensor | None,
        *,
        centre: Tensor,
        seed: int,
    ) -> Self:
        """Learn from `train` what to expect, and from `judged` rows how much each way counts.

        The weights of a feature are those of least squares of its hidden values on what was
        expected (all from the mean row), as far as there are such values, and else those of all;
        none is negative, and they add up to 1 at most. What is linear is learned from the `judged`
        rows too, once it has been judged.
        """
        prior = None
        if metric is not None and len(train) >= rows_needed(len(metric)):
            prior = CodePrior.learn(network, loss, train, judged, metric)
        plain = cls(
            centre=centre,
            low=torch.full_like(centre, -torch.inf),
            high=torch.full_like(centre, torch.inf),
            weights=torch.ones_like(centre),
            prior=prior,
            normal=None,
        )
        learned, at = sampled(train, ROWS_TO_LEARN), sampled(judged, ROWS_TO_TRUST)
        if judged is train and len(at) > 1:
            # No row is to be both: of the linear expectation, half of them are held out.
            at = at[1::2]
            learned = np.setdiff1d(learned, at)
        hidden = Hidden(judged, at, network.facts.sizes, seed)
        seen, unseen = _flat(train, learned), _flat(judged, at)
        if centre.numel() <= WIDEST_ROW:
            plain = replace(plain, normal=Gaussian.chosen(seen, centre.flatten(), hidden))
        plain = plain._weighed(network, loss, hidden, seen)
        if plain.normal is None:
            return plain
        both = [*seen, *unseen]
        return replace(plain._within(both), normal=plain.normal.again(both).rounded(centre))

    def _weighed(
        self, network: CodeNetwork, loss: Reconstruction, hidden: Hidden, seen: Weighted
    ) -> Self:
        """The same with weights, and the range of the rows it learned from."""
        within = self._within(seen)

        def estimated() -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
            for gappy, truth, weight in hidden:
                away = within.expectations(network, loss, gappy) - within.centre
                counted = gappy.isnan() & ~truth.isnan()
                aim = (truth - within.centre).flatten(1)
                yield away.flatten(2), aim, counted.flatten(1), weight

        # Wide rows are estimated twice, since all at once might not fit in memory.
        kept = None if self.normal is None else [*estimated()]
        weights = reduce(or_, (Evidence.of(*part) for part in kept or estimated())).weights()
        mixed = (
            ((weights[:, None] * away).sum(dim=0), *rest) for away, *rest in kept or estimated()
        )
        certain = reduce(or_, (Certainty.of(*part) for part in mixed))
        weights = (weights * certain.kept(hidden.times)).to(self.centre)
        shape = (len(weights), *self.centre.shape[1:])
        return replace(within, weights=weights.reshape(shape).contiguous())

    def _within(self, rows: Weighted) -> Self:
        """The same with the range of what is known of rows (B, D)."""
        low = torch.stack([x.nan_to_num(torch.inf).amin(dim=0) for x, _ in rows]).amin(dim=0)
        high = torch.stack([x.nan_to_num(-torch.inf).amax(dim=0) for x, _ in rows]).amax(dim=0)
        unknown = low > high
        low = torch.where(unknown, -torch.inf, low).reshape(self.centre.shape)
        high = torch.where(unknown, torch.inf, high).reshape(self.centre.shape)
        return replace(self, low=low.to(self.centre), high=high.to(self.centre))

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the centre by name, to be saved."""
        found = {"weights": self.weights, "low": self.low, "high": self.high}
        for name in ("prior", "normal"):
            part = getattr(self, name)
            if part is not None:
                found |= {f"{name}.{f.name}": getattr(part, f.name) for f in fields(part)}
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], centre: Tensor, n_components: int) -> Self:
        """What `tensors` gave; ValueError where they do not fit the network."""
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        prior, normal = (any(n.startswith(p) for n in found) for p in ("prior.", "normal."))
        ways = 1 if not normal else 3 if prior else 2
        row, square = tuple(centre.shape), (n_components, n_components)
        wanted: dict[str, tuple[int, ...]] = {"low": row, "high": row, "weights": (ways, *row[1:])}
        if prior:
            wanted |= {"prior.location": square[:1], "prior.scale": ()}
            wanted |= {"prior.precision": square, "prior.metric": square}
        if normal:
            width = centre.numel()
            wanted |= {"normal.mean": (width,), "normal.precision": (width, width)}
            wanted |= {"normal.shrinkage": ()}
        if found != wanted:
            raise ValueError(f"the imputer's tensors have the shapes {found}")
        return cls(
            centre=centre,
            low=tensors["low"],
            high=tensors["high"],
            weights=tensors["weights"],
            prior=CodePrior(**_part("prior.", tensors)) if prior else None,
            normal=Gaussian(**_part("normal.", tensors)) if normal else None,
        )


def rows_to_go_on(centre: Tensor, n_components: int) -> int:
    """How many rows tell as much as an imputer learns, of rows as wide as their mean `centre`."""
    wide = centre.numel()
    return rows_needed(wide if wide <= WIDEST_ROW else n_components)


def _part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _flat(rows: WeightedRows, chosen: Index) -> Weighted:
    return [(x.flatten(1), weight) for x, weight in weighted_batches(rows, chosen)]


def impute(estimator: Any, X: Any) -> Any:
    """The rows of X with what a fitted Autoencoder fills in, as what X was.

    Of a table that stays on disk a pyarrow table, filled in piece by piece.
    """
    source = estimator._source(X)
    if isinstance(source, TableBlocks):
        return fill_each(align(source, estimator.preparation_.schema), estimator.impute)
    rows, imputer = estimator._rows(source), estimator.imputer_
    if imputer is None:
        return fill(rows.source, None)
    network, loss, decode = estimator.network_, estimator.loss_, estimator.preparation_.decode
    parts = [imputer(network, loss, x) for x, _ in estimator._coded(rows)]
    values = np.concatenate([decode(part) for part in parts])
    return fill(rows.source, values, estimator.preparation_.schema)
