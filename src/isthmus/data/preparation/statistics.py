"""Mean, variance and range of each feature, from one pass over the rows."""

from dataclasses import dataclass

import numpy as np

from isthmus.data.source import Source
from isthmus.data.splitting.holdout import read_blocks
from isthmus.types import Array, RowNumbers

# The end of a feature's range is a limit if this share of its values, and this many, lie on it:
# a value drawn from a density never occurs twice.
MIN_SHARE_AT_LIMIT, MIN_VALUES_AT_LIMIT = 0.001, 5


@dataclass(frozen=True, kw_only=True)
class Extremes:
    """The lowest value of each feature, and how often it occurs."""

    value: Array
    """(D,)"""

    count: Array
    """(D,)"""

    @classmethod
    def of(cls, values: Array) -> "Extremes":
        """The lowest of (n, D) values."""
        lowest = values.min(axis=0)
        return cls(value=lowest, count=np.count_nonzero(values == lowest, axis=0))

    def __or__(self, other: "Extremes") -> "Extremes":
        """The lowest values of both."""
        lowest = np.minimum(self.value, other.value)
        counts = [ends.count * (ends.value == lowest) for ends in (self, other)]
        return Extremes(value=lowest, count=sum(counts))

    def limits(self, known: Array, *, shared: bool) -> Array:
        """The lower limit of each feature, -inf if few of its values lie at the lowest one.

        `known` (D,) counts the values of each feature. The result is (D,), or (1,) if all features
        share one limit.
        """
        if shared:
            lowest = self.value.min(keepdims=True)
            together = (self.count * (self.value == lowest)).sum(keepdims=True)
            everything = known.sum(keepdims=True)
            return Extremes(value=lowest, count=together).limits(everything, shared=False)
        often = (self.count >= MIN_SHARE_AT_LIMIT * known) & (self.count >= MIN_VALUES_AT_LIMIT)
        return np.where(often, self.value, -np.inf)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Statistics of the values that are not missing, (D,) each."""

    rows: int
    known: Array
    """How many values are not missing; mean and variance are 0 for a feature without any."""

    mean: Array
    variance: Array
    lowest: Extremes
    highest: Extremes
    """Of the negated values, so that it holds their lowest."""

    binary: bool
    """Whether every value is 0 or 1."""

    @property
    def low(self) -> Array:
        """(D,): the lowest values."""
        return self.lowest.value

    @property
    def high(self) -> Array:
        """(D,): the highest values."""
        return np.asarray(-self.highest.value)

    @property
    def constant(self) -> Array:
        """(D,) bool: whether all values are equal."""
        return np.asarray(self.high == self.low)

    @property
    def missing(self) -> Array:
        """(D,): the share of values that are missing."""
        return np.asarray(1 - self.known / max(self.rows, 1))

    def limits(self, *, shared: bool) -> tuple[Array, Array]:
        """The lower and the upper limit of each feature; infinite for no limit.

        (D,) each, or (1,) if all features have the same limits (`shared`).
        """
        floor = self.lowest.limits(self.known, shared=shared)
        return floor, np.asarray(-self.highest.limits(self.known, shared=shared))

    def with_range_of(self, validation: "Moments") -> "Moments":
        """The same with the ranges widened by validation rows, which decide nothing else."""
        lowest, highest = self.lowest | validation.lowest, self.highest | validation.highest
        # A feature that varies only in validation rows takes its scale from their distance to the
        # mean.
        varies = (-highest.value > lowest.value) & (self.constant | (self.known == 0))
        mean = np.where(self.known > 0, self.mean, validation.mean)
        distance = validation.variance + (validation.mean - mean) ** 2
        return Moments(
            rows=self.rows + validation.rows,
            known=self.known + validation.known,
            mean=mean,
            variance=np.where(varies, distance, self.variance),
            lowest=lowest,
            highest=highest,
            binary=self.binary and validation.binary,
        )


def compute_moments(source: Source, rows: RowNumbers, weight: Array) -> Moments:
    """The weighted moments of some rows in one pass over blocks; missing values are left out."""
    binary, size = True, source.schema.n_features
    known, total = np.zeros(size, np.int64), np.zeros(size)
    mean, square = np.zeros(size), np.zeros(size)
    nothing = Extremes(value=np.full(size, np.inf), count=np.zeros(size, np.int64))
    lowest = highest = nothing
    start = 0
    for block, read in read_blocks(source, rows):
        values = np.asarray(read, np.float64).reshape(len(block), -1)
        w = np.ascontiguousarray(weight[start : start + len(block)])
        start += len(block)
        missing = np.isnan(values)
        # Chan et al. 1983: join two sets of means and squared deviations without cancellation.
        share, block_mean, block_square = _block_moments(values, missing, w)
        joined = total + share
        joined[joined == 0] = 1.0
        delta = block_mean - mean
        square += block_square + delta**2 * total * share / joined
        mean += delta * share / joined
        total += share
        known += (~missing).sum(axis=0)
        lowest |= Extremes.of(_filled(np.inf, missing, values))
        highest |= Extremes.of(_filled(np.inf, missing, -values))
        binary = binary and bool(((values == 0) | (values == 1) | missing).all())
    # Rounding leaves a tiny variance in a constant column; it is not a scale.
    varies = -highest.value > lowest.value
    return Moments(
        rows=len(rows),
        known=known,
        mean=mean,
        variance=np.where(varies, square / np.where(total > 0, total, 1.0), 0.0),
        lowest=lowest,
        highest=highest,
        binary=binary,
    )


def _block_moments(values: Array, missing: Array, w: Array) -> tuple[Array, Array, Array]:
    """Weight, mean and weighted sum of squared deviations of each feature of (n, D) values."""
    share = w @ ~missing
    mean = w @ _filled(0.0, missing, values) / np.where(share > 0, share, 1.0)
    return share, mean, w @ _filled(0.0, missing, values - mean) ** 2


def _filled(value: float, missing: Array, values: Array) -> Array:
    """The values with `value` where they are missing."""
    return np.where(missing, value, values) if missing.any() else values
