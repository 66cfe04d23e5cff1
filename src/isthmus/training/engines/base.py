"""One training step: batch in, named losses and gradients out."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from isthmus.types import Network, Step

Objective = Callable[[Step], dict[str, Tensor]]
Corrupt = Callable[[Tensor], Tensor]
Terms = Mapping[str, Tensor | float]
"""What each part of a loss was, by name."""


class TrainingStep(Protocol):
    """What the loop asks of a step, however its gradients are worked out."""

    def __call__(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Every term of the batch (B, *shape) with weights (B,), detached; `.grad` is filled."""

    def bound(self) -> AbstractContextManager[None]:
        """The time of a fit, in which weights may lie elsewhere than they do otherwise."""

    @property
    def engine(self) -> str:
        """How it works, in two words for people."""


class AutogradStep:
    """Losses and gradients by torch's autograd, for any network and objective."""

    engine = "autograd"

    def __init__(
        self, network: Network, objective: Objective, corrupt: Corrupt | None, *, bf16: bool
    ) -> None:
        self.network, self.objective, self.corrupt, self.bf16 = network, objective, corrupt, bf16

    def bound(self) -> AbstractContextManager[None]:
        """Weights stay where they are."""
        return nullcontext()

    def __call__(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Every term of the batch, detached; the gradient of their sum is left in `.grad`."""
        seen = x if self.corrupt is None else self.corrupt(x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            output = self.network(seen)
        output = output._replace(
            reconstruction=output.reconstruction.to(x.dtype), code=output.code.to(x.dtype)
        )
        terms = self.objective(Step(self.network, x, seen, output, weight))
        total = torch.stack(list(terms.values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return {name: term.detach() for name, term in terms.items()}


class Steps(NamedTuple):
    """Some steps to be taken one after the other."""

    rows: Tensor
    """(m, *shape): where the rows of all steps are."""

    weight: Tensor
    """(m,): how much each of these counts."""

    sizes: Sequence[int]
    """The rows of each batch."""

    rates: Sequence[float]
    """Learning rates."""

    seeds: Sequence[int]
    """Those of the noise."""

    at: Tensor | None = None
    """(n,): the positions of the rows of all batches, one behind the other; None where they lie so
    already."""

    def gathered(self) -> "Steps":
        """The same with the rows one batch behind the other."""
        if self.at is None:
            return self
        weight = self.weight[:1].expand(len(self.at)) if self.equal else self.weight[self.at]
        return self._replace(rows=self.rows.index_select(0, self.at), weight=weight, at=None)

    @property
    def batches(self) -> Sequence[Tensor]:
        """(B, *shape) rows each, of what is gathered."""
        return torch.split(self.rows, list(self.sizes))

    @property
    def weights(self) -> Sequence[Tensor]:
        """(B,) each, of what is gathered."""
        return torch.split(self.weight, list(self.sizes))

    @property
    def equal(self) -> bool:
        """Whether rows are known to count alike."""
        return alike(self.weight)


class Most(NamedTuple):
    """How much to ask for in one go."""

    batches: int
    nbytes: int
    """Of rows."""


Judge = Callable[[Tensor, Tensor], Terms]
"""From clean rows (B, *shape) with weights (B,) to every term, averaged over them."""


class ManySteps(Protocol):
    """Takes steps of an optimizer without coming back in between."""

    @property
    def judge(self) -> Judge | None:
        """What judges rows in evaluation mode, where that is faster than to ask the network."""

    @property
    def most(self) -> Most:
        """How much it takes at a time."""

    @property
    def engine(self) -> str:
        """How it works, in two words for people."""

    def __call__(self, steps: Steps) -> Terms:
        """Every term as it was before its step, summed over all rows; see `stride.Stride`."""

    def anew(self) -> "ManySteps":
        """The same for another time: on its own, and without what only a running fit needs."""


def alike(weight: Tensor) -> bool:
    """Whether rows are known to count alike: their weight is one number, seen many times."""
    return weight.stride(0) == 0


def runs(sizes: Iterable[int]) -> list[tuple[int, int]]:
    """How many there are of a size, and the size, one run after the other."""
    return [(len(list(run)), size) for size, run in itertools.groupby(sizes)]


def plain(term: Tensor | float) -> Tensor | float:
    """A term as a number that sums lose nothing of; one on a device is not waited for."""
    waits = isinstance(term, Tensor) and term.device.type != "cpu"
    return term.double() if isinstance(term, Tensor) and waits else float(term)


def summed(terms: Iterable[Terms], sizes: Iterable[int]) -> Terms:
    """The terms of batches of such sizes, summed over all rows."""
    sums: dict[str, Tensor | float] = {}
    for one, size in zip(terms, sizes, strict=True):
        for name, term in one.items():
            sums[name] = sums.get(name, 0.0) + plain(term) * size
    return sums


@torch.no_grad()
def losses(network: Network, objective: Objective, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Every term of a clean batch, without gradients."""
    return objective(Step(network, x, x, network(x), weight))
