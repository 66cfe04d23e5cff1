"""What one pass over the rows tells of each feature: mean, variance, and where it ends."""

from dataclasses import dataclass

import numpy as np

from isthmus.data.splitting.holdout import read_blocks
from isthmus.types import Array, Numbers, Source

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

    def limits(self, known: Array, *, shared: bool) -> Array:
        """What no feature falls below, -inf where its values do not pile up at their lowest.

        `known` (D,) is how many values there are of each. (D,), or (1,) where all features have one
        limit, if any.
        """
        if shared:
            lowest = self.value.min(keepdims=True)
            together = (self.count * (self.value == lowest)).sum(keepdims=True)
            everything = known.sum(keepdims=True)
            return Ends(value=lowest, count=together).limits(everything, shared=False)
        often = (self.count >= PILED_UP * known) & (self.count >= FEWEST_PILED_UP)
        return np.where(often, self.value, -np.inf)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Of what is known of each feature of some rows, (D,) each."""

    rows: int
    known: Array
    """How many values are not missing; of a feature without any, mean and variance are 0."""

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

    @property
    def missing(self) -> Array:
        """(D,): the share of values that are missing."""
        return np.asarray(1 - self.known / max(self.rows, 1))

    def limits(self, *, shared: bool) -> tuple[Array, Array]:
        """What no feature falls below and what none rises above; infinite where it is open.

        (D,) each, or (1,) where all features have the same limits (`shared`).
        """
        floor = self.lowest.limits(self.known, shared=shared)
        return floor, np.asarray(-self.highest.limits(self.known, shared=shared))

    def widened(self, unseen: "Moments") -> "Moments":
        """The same with the ranges of rows that nothing else may be learnt from."""
        lowest, highest = self.lowest | unseen.lowest, self.highest | unseen.highest
        # A feature that only varies among the unseen rows takes its scale from how far it strays.
        strays = (-highest.value > lowest.value) & (self.constant | (self.known == 0))
        mean = np.where(self.known > 0, self.mean, unseen.mean)
        strayed = unseen.variance + (unseen.mean - mean) ** 2
        return Moments(
            rows=self.rows + unseen.rows,
            known=self.known + unseen.known,
            mean=mean,
            variance=np.where(strays, strayed, self.variance),
            lowest=lowest,
            highest=highest,
            binary=self.binary and unseen.binary,
        )


def moments_of(source: Source, rows: Numbers, weight: Array) -> Moments:
    """The weighted moments of some rows, in one pass over blocks; what is missing is left out."""
    binary, size = True, source.schema.n_features
    known, total = np.zeros(size, np.int64), np.zeros(size)
    mean, square = np.zeros(size), np.zeros(size)
    nothing = Ends(value=np.full(size, np.inf), count=np.zeros(size, np.int64))
    lowest = highest = nothing
    start = 0
    for block, read in read_blocks(source, rows):
        values = np.asarray(read, np.float64).reshape(len(block), -1)
        w = np.ascontiguousarray(weight[start : start + len(block)])
        start += len(block)
        missing = np.isnan(values)
        # Chan et al. 1983: join two sets of means and squared deviations without cancellation.
        share, block_mean, block_square = _block(values, missing, w)
        joined = total + share
        joined[joined == 0] = 1.0
        delta = block_mean - mean
        square += block_square + delta**2 * total * share / joined
        mean += delta * share / joined
        total += share
        known += (~missing).sum(axis=0)
        lowest |= Ends.of(_instead(np.inf, missing, values))
        highest |= Ends.of(_instead(np.inf, missing, -values))
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


def _block(values: Array, missing: Array, w: Array) -> tuple[Array, Array, Array]:
    """Of each feature of (n, D) values: weight, mean and weighted sum of squared deviations."""
    share = w @ ~missing
    mean = w @ _instead(0.0, missing, values) / np.where(share > 0, share, 1.0)
    return share, mean, w @ _instead(0.0, missing, values - mean) ** 2


def _instead(value: float, missing: Array, values: Array) -> Array:
    """The values, with another one where they are missing."""
    return np.where(missing, value, values) if missing.any() else values
