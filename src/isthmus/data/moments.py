"""What one pass over the rows tells of each feature: mean, variance, and where it ends."""

from dataclasses import dataclass

import numpy as np

from isthmus.data.split import blocks
from isthmus.types import Array, Index, Source

# An end of a feature's range is its limit where so large a share of its values, and so many of
# them, lie on it: what is drawn from a density never comes twice.
PILED_UP, FEWEST_PILED_UP = 0.001, 5


@dataclass(frozen=True, kw_only=True)
class Ends:
    """The lowest value of each feature, and how often it came."""

    value: Array
    """(D,)"""

    count: Array
    """(D,)"""

    @classmethod
    def of(cls, values: Array) -> "Ends":
        """The lowest of (n, D) values."""
        lowest = values.min(axis=0)
        return cls(value=lowest, count=np.count_nonzero(values == lowest, axis=0))

    def __or__(self, other: "Ends") -> "Ends":
        """The lowest of both."""
        lowest = np.minimum(self.value, other.value)
        counts = [ends.count * (ends.value == lowest) for ends in (self, other)]
        return Ends(value=lowest, count=sum(counts))

    def limits(self, rows: int, *, shared: bool) -> Array:
        """What no feature falls below, -inf where its values do not pile up at their lowest.

        (D,), or (1,) where all features have one limit, if any.
        """
        if shared:
            lowest = self.value.min(keepdims=True)
            together = (self.count * (self.value == lowest)).sum(keepdims=True)
            return Ends(value=lowest, count=together).limits(rows * len(self.value), shared=False)
        often = (self.count >= PILED_UP * rows) & (self.count >= FEWEST_PILED_UP)
        return np.where(often, self.value, -np.inf)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Of each feature of some rows, (D,) each."""

    rows: int
    mean: Array
    variance: Array
    lowest: Ends
    highest: Ends
    """Of the values with their signs turned, so that it is the lowest of those."""

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
        """(D,) bool: whether all values are the same."""
        return np.asarray(self.high == self.low)

    def limits(self, *, shared: bool) -> tuple[Array, Array]:
        """What no feature falls below and what none rises above; infinite where it is open.

        (D,) each, or (1,) where all features have the same limits (`shared`).
        """
        floor = self.lowest.limits(self.rows, shared=shared)
        return floor, np.asarray(-self.highest.limits(self.rows, shared=shared))

    def widened(self, unseen: "Moments") -> "Moments":
        """The same with the ranges of rows that nothing else may be learnt from."""
        lowest, highest = self.lowest | unseen.lowest, self.highest | unseen.highest
        # A feature that only varies among the unseen rows takes its scale from how far it strays.
        strays = (-highest.value > lowest.value) & self.constant
        strayed = unseen.variance + (unseen.mean - self.mean) ** 2
        return Moments(
            rows=self.rows + unseen.rows,
            mean=self.mean,
            variance=np.where(strays, strayed, self.variance),
            lowest=lowest,
            highest=highest,
            binary=self.binary and unseen.binary,
        )


def moments_of(source: Source, rows: Index, weight: Array) -> Moments:
    """The weighted moments of some rows, in one pass over blocks."""
    total, binary = 0.0, True
    size = source.schema.n_features
    mean, square = np.zeros(size), np.zeros(size)
    nothing = Ends(value=np.full(size, np.inf), count=np.zeros(size, np.int64))
    lowest = highest = nothing
    start = 0
    for block in blocks(source, rows):
        values = np.asarray(source.read(block), np.float64).reshape(len(block), -1)
        w = weight[start : start + len(block)]
        start += len(block)
        # Chan et al. 1983: join two sets of means and squared deviations without cancellation.
        share = w.sum()
        block_mean = w @ values / share
        block_square = w @ (values - block_mean) ** 2
        delta = block_mean - mean
        square += block_square + delta**2 * total * share / (total + share)
        mean += delta * share / (total + share)
        total += share
        lowest, highest = lowest | Ends.of(values), highest | Ends.of(-values)
        binary = binary and bool(((values == 0) | (values == 1)).all())
    # Rounding leaves a tiny variance in a constant column; it is not a scale.
    varies = -highest.value != lowest.value
    return Moments(
        rows=len(rows),
        mean=mean,
        variance=np.where(varies, square / total, 0.0),
        lowest=lowest,
        highest=highest,
        binary=binary,
    )
