"""Shared types: other modules import these instead of each other."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]
Index = NDArray[np.intp]

# Shape letters: B rows in a batch, D features, K code units, C channels, T time, H x W pixels.


LinearLink = tuple[float | Tensor, float | Tensor]
"""(slope, offset) of the line from data to the raw output of a loss: numbers, or (D,) each."""


class Output(NamedTuple):
    """The result of one forward pass."""

    reconstruction: Tensor
    """(B, *shape): the decoder's raw output; the loss's `mean` turns it into data."""

    code: Tensor
    """(B, K): what `transform` returns."""

    terms: Mapping[str, Tensor] = MappingProxyType({})
    """Further losses of this network by name, as weighted scalars."""


class DenseEncoder(NamedTuple):
    """An encoder that is one dense layer, h = act(W x + b)."""

    weight: Tensor
    """(K, D): W."""

    derivative: Callable[[Tensor], Tensor]
    """act', elementwise."""


class Network(nn.Module):
    """Base of all networks: the members that training uses."""

    def __call__(self, x: Tensor) -> Output:
        """Encode and decode (B, *shape)."""
        return super().__call__(x)  # type: ignore[no-any-return]

    @property
    def code_range(self) -> tuple[float, float] | None:
        """The interval of every code unit, or None if it is unbounded."""
        return None

    def clamp_output(self, x: Tensor) -> Tensor:
        """(B, *shape) data after the output activation of the network."""
        return x

    def dense_encoder(self) -> DenseEncoder | None:
        """The encoder, if it is one dense layer whose activation has a known derivative."""
        return None

    def before_code(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, K): the code before its activation; only with a `dense_encoder`."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, K)."""
        raise NotImplementedError

    def decode(self, code: Tensor) -> Tensor:
        """(B, K) to (B, *shape): the raw output, which the loss's `mean` turns into data."""
        raise NotImplementedError


class Step(NamedTuple):
    """One batch after its forward pass, the input of penalties."""

    model: Network
    x: Tensor
    """(B, *shape): the clean input, even when the network saw a noisy one."""

    seen: Tensor
    """(B, *shape): what the network was given (x after the corruption)."""

    output: Output
    weight: Tensor
    """(B,): how much each row counts; the mean over the training rows is 1."""

    def mean(self, per_row: Tensor) -> Tensor:
        """The weighted mean over the rows of a (B,) tensor, as a scalar."""
        return (self.weight * per_row).mean()


Penalty = Callable[[Step], Tensor]
"""A scalar, already weighted."""


class ColumnFacts(NamedTuple):
    """A column of a table, as a network and a loss see it."""

    likelihood: str
    """The distribution of its values: "squared" (around a mean), "bernoulli", "categorical" or
    "count"."""

    size: int
    """How many features it becomes."""


@dataclass(frozen=True, kw_only=True)
class CountFacts:
    """Statistics of the count columns of a table, (C,) numbers each, in their order."""

    has_size_factors: bool
    """Whether rows have size factors; then all columns are counts."""

    dispersion: Array
    """The dispersion: variance minus mean, divided by the squared mean, >= 0."""

    cost: Array
    """The mean half deviance of the negative binomial of that dispersion around the mean, > 0."""

    poisson_cost: Array
    """The same for the Poisson distribution."""

    log_mean: Array
    log_scale: Array
    """The mean and standard deviation of log(1 + count / size factor)."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Shape and statistics of the rows that a network is built for, in prepared units."""

    shape: tuple[int, ...]
    """(D,) for tables, (C, T) for signals, (C, H, W) for images."""

    low: float = -np.inf
    """The smallest prepared value of the training rows."""

    high: float = np.inf
    """The largest prepared value of the training rows."""

    floor: Array | None = field(default=None, compare=False)
    """The lower limit of each feature, broadcastable to `shape`, -inf for features without one;
    None if no feature has one."""

    ceiling: Array | None = field(default=None, compare=False)
    """The upper limit of each feature, in the same form."""

    allow_missing: bool = False
    """Whether values may be missing; they are NaN."""

    columns: tuple[ColumnFacts, ...] | None = None
    """The columns of a table in the order of its features; None if all columns are numbers."""

    mean: Array | None = field(default=None, compare=False)
    """(D,): the prepared means of the features, if there are `columns`."""

    scale: Array | None = field(default=None, compare=False)
    """(D,): what each feature was divided by, if there are `columns`."""

    counts: CountFacts | None = field(default=None, compare=False)
    """Statistics of the count columns, if the loss uses a count likelihood, else None."""

    @property
    def sizes(self) -> Index | None:
        """How many features each column becomes; None if each becomes one."""
        if self.columns is None:
            return None
        return np.asarray([column.size for column in self.columns], np.intp)

    @property
    def starts(self) -> Index:
        """The first feature of each column."""
        if self.sizes is None:
            return np.arange(self.n_features)
        return np.asarray(np.cumsum(self.sizes) - self.sizes)

    @property
    def share(self) -> Array | None:
        """(D,): the share of each feature in its column; None if each is a column by itself."""
        return None if self.sizes is None else np.repeat(1 / self.sizes, self.sizes)

    @property
    def n_features(self) -> int:
        """The number of features of a row."""
        return int(np.prod(self.shape))


class RowNumbers(Protocol):
    """Row numbers in order: an array, or an object that computes them on demand."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, positions: Any, /) -> Any:
        """The row numbers at a slice or an array of positions."""


class HasCurvature(Protocol):
    """A loss with the second derivative that second-order methods need."""

    def curvature(self, raw: Tensor) -> Tensor:
        """Elementwise Fisher information of the loss at `raw` (B, *shape), >= 0."""


def shuffled_batches(n_rows: int, batch_size: int, *, seed: int, epoch: int) -> list[Index]:
    """The positions of each batch of one epoch; every row comes once, the last batch may be short.

    The order depends only on the seed and the epoch, so a resumed fit sees the same batches.
    """
    order = np.random.default_rng((seed, epoch)).permutation(n_rows)
    return [order[start : start + batch_size] for start in range(0, n_rows, batch_size)]


class WeightedRows:
    """Prepared rows with weights of mean 1: what a network is trained and evaluated on.

    A subclass sets `weight` and defines `__len__` and `take`; the other members have defaults.
    """

    weight: Tensor
    """(n,): how much each row counts."""

    resident: Tensor | None = None
    """(n, *shape): all rows, if they are prepared in memory."""

    def __len__(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    def take(self, positions: Index) -> Tensor:
        """(len(positions), *shape): the rows at these positions."""
        raise NotImplementedError

    @property
    def quick_positions(self) -> Index:
        """Positions of the rows that are fast to read; by default all of them."""
        return np.arange(len(self))

    def batches(self, size: int, *, seed: int, epoch: int) -> Sequence[Index]:
        """The positions of each batch of `size` rows of an epoch."""
        return shuffled_batches(len(self), size, seed=seed, epoch=epoch)

    def prefetch(self, batches: Sequence[Index], first: int = 0) -> AbstractContextManager[None]:
        """A context in which batches from number `first` on may be read before they are taken."""
        del batches, first
        return nullcontext()


class Module(nn.Module):
    """An nn.Module whose call is typed: one tensor in, one tensor out."""

    def __call__(self, x: Tensor) -> Tensor:
        """One forward pass."""
        return super().__call__(x)  # type: ignore[no-any-return]
