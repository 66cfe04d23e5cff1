"""Counts: how deep the rows of a table were counted, and how a network looks at them."""

# Shape letters: B rows in a batch, D features, C columns of counts.

import torch
from torch import Tensor, nn

from isthmus.missing import filled
from isthmus.types import Facts, Index

LEAST_TOTAL = 1.0
"""A row is taken to hold so many counts at least: one of none has no depth."""


def count_places(facts: Facts) -> Index | None:
    """(C,): which features are counts; None where nothing is known of counts."""
    if facts.counts is None or facts.columns is None:
        return None
    is_count = [column.likelihood == "count" for column in facts.columns]
    return facts.starts[is_count]


class Depth:
    """The size factors of rows whose columns are all counts: total over the mean total.

    They are the library size factors of Lun, Bach and Marioni (2016). What is missing of a row is
    missing of both totals. The mean over the training rows is 1.
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
        one = torch.ones_like(total)
        return torch.where(expected > 0, total / expected, one)[:, None]


class CountsSeen(nn.Module):
    """What a network sees of counts: log(1 + count / size factor), of mean 0 and variance 1."""

    scale: Tensor
    mean: Tensor
    spread: Tensor
    at: Tensor

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        places, counts = count_places(facts), facts.counts
        assert places is not None
        assert counts is not None
        assert facts.scale is not None
        self.all = len(places) == facts.n_features
        self.depth = Depth(facts) if counts.sized else None
        for name, values in {
            "at": places,
            "scale": facts.scale[places],
            "mean": counts.log_mean,
            "spread": counts.log_scale,
        }.items():
            # Facts of the rows, which the preparation keeps: no part of the weights.
            self.register_buffer(name, torch.as_tensor(values), persistent=False)

    def forward(self, x: Tensor, fill_value: Tensor | None) -> Tensor:
        """(B, D) prepared rows as the network sees them; `stand_in` (D,) is for missing values."""
        sizes = None if self.depth is None else self.depth(x)
        if fill_value is not None:
            # Of a row that was counted twice as deep, twice as many are missing.
            x = filled(x, fill_value if sizes is None else fill_value * sizes)
        counts = (x if self.all else x[:, self.at]) * self.scale
        # Noise may have made a count negative.
        counts = counts.clamp(min=0) if sizes is None else counts.clamp(min=0) / sizes
        seen = (counts.log1p() - self.mean) / self.spread
        return seen if self.all else x.index_copy(1, self.at, seen)

    def restored(self, seen: Tensor) -> Tensor:
        """The way back for rows of size factor 1: (B, D) prepared rows."""
        looked = seen if self.all else seen[:, self.at]
        counts = (looked * self.spread + self.mean).expm1().clamp(min=0) / self.scale
        return counts if self.all else seen.index_copy(1, self.at, counts)


def counts_seen(facts: Facts) -> CountsSeen | None:
    """How a network looks at the counts of its rows; None where there are none."""
    return None if facts.counts is None else CountsSeen(facts)
