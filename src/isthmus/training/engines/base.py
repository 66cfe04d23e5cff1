"""Interfaces of training engines: a single step, several steps per call, and their batches."""

# Shape letters: B rows in a batch, m rows in memory, n rows of all batches of a call.

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from isthmus.types import Network, Step

TermsFunction = Callable[[Step], dict[str, Tensor]]
Corrupt = Callable[[Tensor], Tensor]
Terms = Mapping[str, Tensor | float]
"""The value of each loss term, by name."""


class TrainingStep(Protocol):
    """Computes losses and gradients of one batch."""

    def __call__(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Return every term of the batch (B, *shape) with weights (B,), detached; fill `.grad`."""

    def bound(self) -> AbstractContextManager[None]:
        """A context for the duration of a fit, in which the engine may move the weights."""


class StepBatch(NamedTuple):
    """The batches of several consecutive steps."""

    rows: Tensor
    """(m, *shape): the rows of all steps, or all rows in memory if `positions` is given."""

    weight: Tensor
    """(m,): the sample weights."""

    sizes: Sequence[int]
    """Rows in each batch."""

    rates: Sequence[float]
    """The learning rate of each step."""

    seeds: Sequence[int]
    """The random seed of each step."""

    positions: Tensor | None = None
    """(n,): positions in `rows` of the rows of all batches; None if `rows` is already in order."""

    def gathered(self) -> "StepBatch":
        """The same steps with the rows copied into batch order."""
        if self.positions is None:
            return self
        positions = self.positions
        weight = self.weight[:1].expand(len(positions)) if self.equal else self.weight[positions]
        rows = self.rows.index_select(0, positions)
        return self._replace(rows=rows, weight=weight, positions=None)

    @property
    def batches(self) -> Sequence[Tensor]:
        """The rows of each step, (B, *shape); call `gathered` first."""
        return torch.split(self.rows, list(self.sizes))

    @property
    def weights(self) -> Sequence[Tensor]:
        """The sample weights of each step, (B,); call `gathered` first."""
        return torch.split(self.weight, list(self.sizes))

    @property
    def equal(self) -> bool:
        """Whether all sample weights are known to be equal."""
        return equal_weights(self.weight)


class BatchLimit(NamedTuple):
    """The largest amount of work to hand to an engine per call."""

    batches: int
    nbytes: int
    """Bytes of rows."""


Evaluator = Callable[[Tensor, Tensor], Terms]
"""Maps clean rows (B, *shape) and weights (B,) to every term, averaged over the rows."""


class MultiStep(Protocol):
    """Takes several optimizer steps per call."""

    name: str
    """The engine's name, as in `facts_["engine"]`."""

    limit: BatchLimit
    releases_gil: bool
    """Whether a call runs outside Python, so that other threads can work meanwhile."""

    @property
    def evaluator(self) -> Evaluator | None:
        """A faster way to evaluate rows than the network itself, or None."""

    def __call__(self, steps: StepBatch) -> Terms:
        """Take the steps; return every term before its step, summed over all rows."""

    def detached(self) -> Self:
        """A copy without buffers, to keep in a fitted model and to go on with later."""


STEP_SHARING: ContextVar[Callable[[MultiStep], MultiStep] | None] = ContextVar(
    "step_sharing", default=None
)
"""Wraps the engine of a fit that runs together with others; see `training.concurrent`."""


def equal_weights(weight: Tensor) -> bool:
    """Whether all weights are known to be equal: an expanded tensor with stride 0."""
    return weight.stride(0) == 0


def run_lengths(sizes: Iterable[int]) -> list[tuple[int, int]]:
    """(count, size) of each run of equal batch sizes."""
    return [(len(list(run)), size) for size, run in itertools.groupby(sizes)]


def as_number(term: Tensor | float) -> Tensor | float:
    """A term in double precision; a tensor on a GPU stays there, so that nothing waits for it."""
    if isinstance(term, Tensor) and term.device.type != "cpu":
        return term.double()
    return float(term)


def sum_terms(terms: Iterable[Terms], sizes: Iterable[int]) -> Terms:
    """The sum over all rows of terms that are means over batches of the given sizes."""
    sums: dict[str, Tensor | float] = {}
    for batch_terms, size in zip(terms, sizes, strict=True):
        for name, term in batch_terms.items():
            sums[name] = sums.get(name, 0.0) + as_number(term) * size
    return sums


@torch.no_grad()
def evaluate_batch(
    network: Network, objective: TermsFunction, x: Tensor, weight: Tensor
) -> dict[str, Tensor]:
    """Every term of a clean batch, without gradients."""
    return objective(Step(network, x, x, network(x), weight))
