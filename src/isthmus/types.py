"""The vocabulary every part shares; parts meet here and never need each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]
Index = NDArray[np.intp]

# Shape letters: B rows in a batch, D features, K code units, C channels, T time, H x W pixels.


class Output(NamedTuple):
    """What one forward pass gives."""

    reconstruction: Tensor
    """(B, *shape): the decoder's raw output; the loss's `mean` turns it into data."""

    code: Tensor
    """(B, K): what `transform` returns."""

    terms: Mapping[str, Tensor] = MappingProxyType({})
    """Losses only this network can compute, already weighted scalars, by name."""


class DenseEncoder(NamedTuple):
    """An encoder that is one dense layer, h = act(W x + b)."""

    weight: Tensor
    """(K, D): W."""

    derivative: Callable[[Tensor], Tensor]
    """act', elementwise."""


class Network(nn.Module):
    """What the training loop asks of a network, whatever its kind."""

    def __call__(self, x: Tensor) -> Output:
        """Encode and decode (B, *shape)."""
        return super().__call__(x)  # type: ignore[no-any-return]

    @property
    def code_range(self) -> tuple[float, float] | None:
        """The interval every code unit stays in, or None where it is open."""
        return None

    def clamp_output(self, x: Tensor) -> Tensor:
        """(B, *shape) data, cut off or bent where the network's own output would be."""
        return x

    def dense_encoder(self) -> DenseEncoder | None:
        """The encoder, if it is one dense layer whose activation has a known derivative."""
        return None

    def before_code(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, K): the code before its activation; asked only of a `one_layer`."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, K)."""
        raise NotImplementedError

    def decode(self, code: Tensor) -> Tensor:
        """(B, K) to (B, *shape): the raw output, which the loss's `mean` turns into data."""
        raise NotImplementedError


class Step(NamedTuple):
    """One batch after its forward pass, as penalties see it."""

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
    """What its values are drawn from: "squared" (a mean they stray around), "bernoulli",
    "categorical" or "count"."""

    size: int
    """How many features it is."""


@dataclass(frozen=True, kw_only=True)
class CountFacts:
    """The columns of counts of a table, (C,) numbers each, in their order."""

    sized: bool
    """Whether rows have size factors: all columns are counts, and rows were counted as deep."""

    dispersion: Array
    """How far the variance exceeds the mean, in squares of the mean, >= 0."""

    cost: Array
    """The mean half deviance of the negative binomial of that dispersion around the mean, > 0."""

    poisson_cost: Array
    """The same for Poisson's."""

    log_mean: Array
    log_scale: Array
    """The mean and standard deviation of log(1 + count / size factor)."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a network is told about the rows it is built for, in prepared units."""

    shape: tuple[int, ...]
    """(D,) for tables, (C, T) for signals, (C, H, W) for images."""

    low: float = -np.inf
    """The smallest prepared value of the training rows."""

    high: float = np.inf
    """The largest prepared value of the training rows."""

    floor: Array | None = field(default=None, compare=False)
    """What no feature falls below, in a form that broadcasts to `shape`, -inf where it is open;
    None where all are."""

    ceiling: Array | None = field(default=None, compare=False)
    """What no feature rises above, likewise."""

    allow_missing: bool = False
    """Whether values may be missing; they are NaN."""

    columns: tuple[ColumnFacts, ...] | None = None
    """Of a table whose columns are not all numbers, in the order of its features, else None."""

    mean: Array | None = field(default=None, compare=False)
    """(D,): the prepared means of the features, where there are `columns`."""

    scale: Array | None = field(default=None, compare=False)
    """(D,): what a value was divided by, where there are `columns`."""

    counts: CountFacts | None = field(default=None, compare=False)
    """Where some columns are counts, and the loss judges them as such, else None."""

    @property
    def sizes(self) -> Index | None:
        """How many features each column is; None where each is one."""
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
        """(D,): how much of its column each feature is; None where each is one."""
        return None if self.sizes is None else np.repeat(1 / self.sizes, self.sizes)

    @property
    def n_features(self) -> int:
        """Numbers in one row."""
        return int(np.prod(self.shape))


class Source(Protocol):
    """Rows of numbers, wherever they live: in memory, in a file, in a folder of images."""

    @property
    def schema(self) -> Any:
        """The `isthmus.data.Schema` of one row: shape, names, dtypes and what it came from."""

    @property
    def origin(self) -> str:
        """What to call these rows in a message: the file's path, or "X"."""

    def __len__(self) -> int:
        """How many rows there are."""

    def read(self, rows: Index) -> Array:
        """The chosen rows as a dense (len(rows), *schema.shape) array, in their own dtype."""


class Numbers(Protocol):
    """Row numbers in order: an array of them, or what stands for one without holding it."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, at: Any, /) -> Any:
        """The numbers at a slice or an array of positions."""


class HasCurvature(Protocol):
    """A loss with the second derivative that second-order methods need."""

    def curvature(self, raw: Tensor) -> Tensor:
        """Elementwise Fisher information of the loss at `raw` (B, *shape), >= 0."""


class WeightedRows(Protocol):
    """Prepared rows with weights of mean 1."""

    weight: Tensor

    def __len__(self) -> int:
        """How many rows there are."""

    def take(self, positions: Index) -> Tensor:
        """(len(positions), *shape): the rows at these positions."""


class Module(nn.Module):
    """An nn.Module whose call is typed: one tensor in, one tensor out."""

    def __call__(self, x: Tensor) -> Tensor:
        """One forward pass."""
        return super().__call__(x)  # type: ignore[no-any-return]
