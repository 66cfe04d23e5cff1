"""A sample of training rows, and statistics of its codes and reconstructions."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from isthmus.data.loading.rows import sample_positions
from isthmus.missing import filled, row_means
from isthmus.training.diagnostics.layer_stats import Activity, round_significant
from isthmus.training.state import Record
from isthmus.types import WeightedRows

# Shape letters: n rows of the sample, D features, K code units.

MAX_ROWS, MIN_ROWS, MAX_VALUES = 256, 32, 1 << 16
"""The largest sample, in rows; wide rows are fewer, with at most 65,536 values in all."""

MEAN_ROWS = 2048
"""The largest number of rows from which the mean row is computed."""

CONSTANT = 1e-4
"""A code whose spread is below this share of its size is constant."""

UNUSED = 1e-3
"""A unit whose spread is below this share of the largest one is unused."""

EQUAL = 1e-5
"""Values closer than this share of the largest spread are equal up to rounding."""

RANK = 1e-3
"""Directions of the code shorter than this share of the longest do not count in its rank."""


class DiagnosticSample(NamedTuple):
    """Training rows to examine, and the error of predicting their mean row."""

    x: Tensor
    """(n, *shape)"""

    weight: Tensor
    """(n,)"""

    mean: Tensor
    """(1, *shape): the weighted mean of the training rows, or of 2048 of them."""

    distinct: int
    """The number of different rows."""

    mean_error: float
    """The squared error of predicting `mean`; zero if the rows do not vary."""

    @classmethod
    def of(cls, rows: WeightedRows) -> "DiagnosticSample":
        """At most 256 of the rows, evenly spaced."""
        mean = _mean(rows)
        size = max(MIN_ROWS, min(MAX_ROWS, MAX_VALUES // max(mean.numel(), 1)))
        positions = sample_positions(rows, size)
        x, weight = rows.take(positions), rows.weight[torch.as_tensor(positions)]
        error = squared_error(mean.expand_as(x), x, weight)
        # Large equal numbers differ from their mean by rounding, which is not variance.
        varies = error > (100 * torch.finfo(x.dtype).eps * float(filled(x).abs().max())) ** 2
        return cls(x, weight, mean, count_distinct(filled(x, mean)), error if varies else 0.0)


@dataclass
class CodeStats:
    """Statistics of the sample's codes."""

    rank: int
    """The number of directions in which the code varies."""

    min_variance: float
    max_variance: float
    """The variances of the units that vary least and most."""

    unused: int
    """The number of units that hardly vary over the rows: the activity of Burda et al. (2016),
    relative to the unit that varies most."""

    distinct: int
    """The number of different codes."""

    constant: bool
    """Whether the code is the same for every row."""

    @classmethod
    @torch.no_grad()
    def of(cls, code: Tensor) -> "CodeStats":
        """The statistics of an (n, K) code."""
        code = code.flatten(1).double()
        centred = code - code.mean(dim=0)
        spread = centred.square().mean(dim=0).sqrt()
        largest, size = float(spread.max()), float(code.square().mean().sqrt())
        constant = largest <= CONSTANT * size
        return cls(
            rank=0 if constant else int(torch.linalg.matrix_rank(centred, rtol=RANK)),
            min_variance=float(spread.min()) ** 2,
            max_variance=largest**2,
            unused=code.shape[1] if constant else int((spread <= UNUSED * largest).sum()),
            distinct=1 if constant else count_distinct(code),
            constant=constant,
        )


@torch.no_grad()
def count_distinct(rows: Tensor) -> int:
    """The number of (n, D) rows that differ by more than rounding."""
    rows = rows.flatten(1).double()
    largest = float((rows - rows.mean(dim=0)).square().mean(dim=0).max()) ** 0.5
    if largest == 0:
        return 1
    # Adding zero turns -0, whose bytes differ, into 0.
    rounded = (rows / (EQUAL * largest)).round().add_(0.0).cpu().numpy()
    return len({row.tobytes() for row in rounded})


def linear_explained_variance(x: Tensor, mean: Tensor, weight: Tensor, n_components: int) -> float:
    """The share of variance about `mean` that PCA of half the (n, D) rows explains in the others.

    It estimates what a linear code of `n_components` units can learn. Noise does not count, since
    the rows of the second half are new to the PCA. Missing values count as the mean.
    """
    centred = filled(x.flatten(1) - mean.flatten()).double() * weight.double().sqrt()[:, None]
    train, test = centred[::2], centred[1::2]
    _, scales, axes = torch.linalg.svd(train, full_matrices=False)
    total = float(test.square().sum())
    if not total or not len(scales) or not float(scales[0]):
        return 0.0
    axes = axes[:n_components][scales[:n_components] > 1e-9 * scales[0]]
    return float((test @ axes.T).square().sum()) / total


class NetworkStats(NamedTuple):
    """The behaviour of the network on the sample."""

    activity: Activity
    code: CodeStats
    rows: int
    """The number of different rows of the sample."""

    relative_error: float
    """The squared error of the reconstructions divided by that of predicting the mean row."""

    linear_relative_error: float | None
    """The relative error of a linear code of the same size, if `relative_error` is high."""

    unused_variance: float | None = None
    """What the unused units could explain in a linear code, as a share of the variance.

    Measured only if many units are unused.
    """

    def record(self) -> Record:
        """The history record: a few plain numbers, without layers that have no issue."""
        linear, unused = self.linear_relative_error, self.unused_variance
        variances = self.code.min_variance, self.code.max_variance
        record: Record = {
            "relative_error": round_significant(self.relative_error),
            "linear_relative_error": None if linear is None else round_significant(linear),
            "code_rank": self.code.rank,
            "code_variance": [round_significant(variance) for variance in variances],
            "unused_units": self.code.unused,
            "unused_variance": None if unused is None else round_significant(unused),
            "distinct_codes": round_significant(self.code.distinct / self.rows),
            "dead": {name: share for name, share in self.activity.dead.items() if share},
            "saturated": {name: share for name, share in self.activity.saturated.items() if share},
        }
        return {name: value for name, value in record.items() if value not in (None, {})}


def _mean(rows: WeightedRows) -> Tensor:
    positions = sample_positions(rows, MEAN_ROWS)
    weight = rows.weight[torch.as_tensor(positions)].double()
    first = rows.take(positions[:1])
    total, total_weight = (torch.zeros_like(first[0], dtype=torch.float64) for _ in range(2))
    for start in range(0, len(positions), MAX_ROWS):
        part = slice(start, start + MAX_ROWS)
        x = rows.take(positions[part]).double()
        total += torch.tensordot(weight[part], filled(x), dims=1)
        total_weight += torch.tensordot(weight[part], (~x.isnan()).double(), dims=1)
    return (total / total_weight.clamp(min=torch.finfo(total_weight.dtype).tiny)).to(first)[None]


def squared_error(reconstruction: Tensor, x: Tensor, weight: Tensor) -> float:
    """The weighted mean of the rows' squared errors, without missing values."""
    per_row = row_means((reconstruction - x).double().square())
    return float((weight.double() * per_row).sum() / weight.double().sum())
