"""Counts: the size factors of a table's rows, and the logarithms that a network takes as input."""

# Shape letters: B rows in a batch, D features, C columns of counts.

import torch
from torch import Tensor, nn

from isthmus.missing import filled
from isthmus.types import Facts, Index

LEAST_TOTAL = 1.0
"""The least total of a row: an empty row has no size factor."""


def count_indices(facts: Facts) -> Index | None:
    """(C,): the features that are counts; None for a table without counts."""
    if facts.counts is None or facts.columns is None:
        return None
    is_count = [column.likelihood == "count" for column in facts.columns]
    return facts.starts[is_count]


class SizeFactors:
    """The size factors of rows whose columns are all counts: total over the mean total.

    They are the library size factors of Lun, Bach and Marioni (2016). A missing value is left out
    of both totals. The mean over the training rows is 1.
    """

    def __init__(self, facts: Facts) -> None:
        scale, mean = torch.as_tensor(facts.scale), torch.as_tensor(facts.mean)
        self.scale, self.expected = scale, mean * scale

    def __call__(self, x: Tensor) -> Tensor:
        """(B, 1): the size factors of prepared rows (B, D)."""
        if self.scale.dtype != x.dtype or self.scale.device != x.device:
            self.scale, self.expected = self.scale.to(x), self.expected.to(x)
        total = (filled(x) @ self.scale).clamp(min=LEAST_TOTAL)
        expected = (~x.isnan()).to(x.dtype) @ self.expected
        return torch.where(expected > 0, total / expected, torch.ones_like(total))[:, None]


class LogCounts(nn.Module):
    """Counts as a network takes them: log(1 + count / size factor), of mean 0 and variance 1."""

    scale: Tensor
    mean: Tensor
    spread: Tensor
    index: Tensor

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        index, counts = count_indices(facts), facts.counts
        assert index is not None
        assert counts is not None
        assert facts.scale is not None
        self.all = len(index) == facts.n_features
        self.size_factors = SizeFactors(facts) if counts.has_size_factors else None
        for name, values in {
            "index": index,
            "scale": facts.scale[index],
            "mean": counts.log_mean,
            "spread": counts.log_scale,
        }.items():
            # Facts of the rows, which are saved with the preparation, not with the weights.
            self.register_buffer(name, torch.as_tensor(values), persistent=False)

    def forward(self, x: Tensor, fill_value: Tensor | None) -> Tensor:
        """Prepared rows (B, D) as network input; `fill_value` (D,) replaces missing values."""
        sizes = None if self.size_factors is None else self.size_factors(x)
        if fill_value is not None:
            # A row with twice the size factor is expected to have twice the count.
            x = filled(x, fill_value if sizes is None else fill_value * sizes)
        counts = (x if self.all else x[:, self.index]) * self.scale
        # A corruption may have made a count negative.
        counts = counts.clamp(min=0) if sizes is None else counts.clamp(min=0) / sizes
        seen = (counts.log1p() - self.mean) / self.spread
        return seen if self.all else x.index_copy(1, self.index, seen)

    def inverse(self, seen: Tensor) -> Tensor:
        """The inverse for rows of size factor 1: network input (B, D) to prepared rows."""
        logs = seen if self.all else seen[:, self.index]
        counts = (logs * self.spread + self.mean).expm1().clamp(min=0) / self.scale
        return counts if self.all else seen.index_copy(1, self.index, counts)


def log_counts(facts: Facts) -> LogCounts | None:
    """The module that takes the logarithms of the counts; None for a table without counts."""
    return None if facts.counts is None else LogCounts(facts)
