"""Some training rows to look at, and the network's code and reconstructions of them in numbers."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from isthmus.data.loading.rows import sample_positions
from isthmus.missing import filled, row_means
from isthmus.training.diagnostics.layer_stats import Activity, short
from isthmus.training.state import Record
from isthmus.types import WeightedRows

# Shape letters: n rows of the sample, D features, K code units.

MOST_ROWS, FEWEST_ROWS, MOST_VALUES = 256, 32, 1 << 16
"""Rows of the sample: so many, but fewer where a row holds more than 256 numbers."""

ROWS_OF_MEAN = 2048

CONSTANT = 1e-4
"""A code whose spread is below this share of its size is the same for every row."""

UNUSED = 1e-3
"""A unit is unused whose spread is below this share of the widest one's."""

SAME = 1e-5
"""Numbers closer than this share of the widest spread are equal, as rounding makes them."""

RANK = 1e-3
"""Directions of the code shorter than this share of the longest do not count to its rank."""


class Sample(NamedTuple):
    """Training rows to look at, and what predicting the mean row makes of them."""

    x: Tensor
    """(n, *shape)"""

    weight: Tensor
    """(n,)"""

    mean: Tensor
    """(1, *shape): the weighted mean of the training rows, or of 2048 of them."""

    distinct: int
    mean_error: float
    """Zero where the rows do not vary."""

    @classmethod
    def of(cls, rows: WeightedRows) -> "Sample":
        """At most 256 of the rows, evenly spaced."""
        mean = _mean(rows)
        size = max(FEWEST_ROWS, min(MOST_ROWS, MOST_VALUES // max(mean.numel(), 1)))
        at = sample_positions(rows, size)
        x, weight = rows.take(at), rows.weight[torch.as_tensor(at)]
        error = error_of(mean.expand_as(x), x, weight)
        # Rounding of large equal numbers is no variance.
        varies = error > (100 * torch.finfo(x.dtype).eps * float(filled(x).abs().max())) ** 2
        return cls(x, weight, mean, count_distinct(filled(x, mean)), error if varies else 0.0)


@dataclass
class CodeFigures:
    """The code of the sample in numbers."""

    rank: int
    """Directions in which it varies."""

    smallest: float
    largest: float
    """The variances of the least and of the most varying unit."""

    unused: int
    """Units that hardly vary from row to row: the activity of Burda et al. (2016),
    measured against the unit that varies most."""

    distinct: int
    """Different codes."""

    constant: bool
    """Whether it is the same for every row."""

    @classmethod
    @torch.no_grad()
    def of(cls, code: Tensor) -> "CodeFigures":
        """Of an (n, K) code."""
        code = code.flatten(1).double()
        centred = code - code.mean(dim=0)
        spread = centred.square().mean(dim=0).sqrt()
        widest, size = float(spread.max()), float(code.square().mean().sqrt())
        constant = widest <= CONSTANT * size
        return cls(
            rank=0 if constant else int(torch.linalg.matrix_rank(centred, rtol=RANK)),
            smallest=float(spread.min()) ** 2,
            largest=widest**2,
            unused=code.shape[1] if constant else int((spread <= UNUSED * widest).sum()),
            distinct=1 if constant else count_distinct(code),
            constant=constant,
        )


@torch.no_grad()
def count_distinct(rows: Tensor) -> int:
    """How many of (n, D) rows differ by more than rounding."""
    rows = rows.flatten(1).double()
    widest = float((rows - rows.mean(dim=0)).square().mean(dim=0).max()) ** 0.5
    if widest == 0:
        return 1
    # Zero is added to make -0 the same as 0, whose bits are others.
    rounded = (rows / (SAME * widest)).round().add_(0.0).cpu().numpy()
    return len({row.tobytes() for row in rounded})


def share_rebuilt_linearly(x: Tensor, mean: Tensor, weight: Tensor, n_components: int) -> float:
    """The share of variance about `mean` that PCA of half the (n, D) rows explains in the others.

    What a linear code of `n_components` units can learn of these rows, told by rows it has not
    seen, so that noise counts for nothing. The mean stands in for what is missing.
    """
    centred = filled(x.flatten(1) - mean.flatten()).double() * weight.double().sqrt()[:, None]
    known, new = centred[::2], centred[1::2]
    _, scales, axes = torch.linalg.svd(known, full_matrices=False)
    total = float(new.square().sum())
    if not total or not len(scales) or not float(scales[0]):
        return 0.0
    axes = axes[:n_components][scales[:n_components] > 1e-9 * scales[0]]
    return float((new @ axes.T).square().sum()) / total


class Look(NamedTuple):
    """The network's behaviour on the sample."""

    activity: Activity
    code: CodeFigures
    rows: int
    """Different rows of the sample."""

    beside_mean: float
    """Squared error of the reconstructions over that of predicting the mean row."""

    linear: float | None
    """The same of a linear code of this size, told where `beside_mean` gives reason to ask."""

    idle: float | None = None
    """What a linear code of this size explains beyond one of only the units in use, as a share
    of the variance; told where many units are not in use."""

    def record(self) -> Record:
        """As a few plain numbers; layers where all is well are left out."""
        record: Record = {
            "beside_mean": short(self.beside_mean),
            "linear": None if self.linear is None else short(self.linear),
            "code_rank": self.code.rank,
            "code_variance": [short(self.code.smallest), short(self.code.largest)],
            "unused_units": self.code.unused,
            "idle": None if self.idle is None else short(self.idle),
            "distinct": short(self.code.distinct / self.rows),
            "dead": {name: share for name, share in self.activity.dead.items() if share},
            "saturated": {name: share for name, share in self.activity.saturated.items() if share},
        }
        return {name: value for name, value in record.items() if value not in (None, {})}


def _mean(rows: WeightedRows) -> Tensor:
    at = sample_positions(rows, ROWS_OF_MEAN)
    weight = rows.weight[torch.as_tensor(at)].double()
    first = rows.take(at[:1])
    total, known = (torch.zeros_like(first[0], dtype=torch.float64) for _ in range(2))
    for start in range(0, len(at), MOST_ROWS):
        part = slice(start, start + MOST_ROWS)
        x = rows.take(at[part]).double()
        total += torch.tensordot(weight[part], filled(x), dims=1)
        known += torch.tensordot(weight[part], (~x.isnan()).double(), dims=1)
    return (total / known.clamp(min=torch.finfo(known.dtype).tiny)).to(first)[None]


def error_of(rebuilt: Tensor, x: Tensor, weight: Tensor) -> float:
    """The weighted mean of the squared errors of the rows, as far as they are known."""
    per_row = row_means((rebuilt - x).double().square())
    return float((weight.double() * per_row).sum() / weight.double().sum())
