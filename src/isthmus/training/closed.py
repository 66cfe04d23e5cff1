"""A training step without autograd, for networks of dense layers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from isthmus.kinds import DenseForm
from isthmus.losses import Objective
from isthmus.training.dense import Passes, passes_of
from isthmus.training.flat import Flat
from isthmus.training.heads import AnyHead, Head, head_of
from isthmus.types import Network

MOST_SIZES = 8
"""Batch sizes whose passes are kept; all but the last batch of an epoch have one."""


class ClosedStep:
    """Losses and gradients of a dense network, carried out as they were once worked out.

    The same numbers as `AutogradStep`'s within rounding, from the same draws of noise.
    """

    def __init__(
        self,
        network: Network,
        form: DenseForm,
        head: Head,
        corrupt: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.network, self.form, self.head, self.corrupt = network, form, head, corrupt
        self.flat: Flat | None = None
        self.kept: dict[int, Passes] = {}

    @property
    def draws(self) -> bool:
        """Whether a step asks for random numbers."""
        return self.corrupt is not None or self.form.dropout > 0 or self.form.code_dropout > 0

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Keep all weights in one stretch of memory for a while."""
        self.flat = Flat(self.network)
        try:
            with self.flat.bound():
                yield
        finally:
            self.flat, self.kept = None, {}

    def __call__(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Every term of the batch (B, *shape), detached; its gradient is left in `.grad`."""
        assert self.flat is not None, "a step is taken while it is bound"
        self.flat.gather()
        terms = self.passed(x, weight)
        self.flat.attach()
        return terms

    @torch.no_grad()
    def passed(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """The terms of a batch; its gradient is left in the flat slopes."""
        passes = self._passes(len(x))
        seen = x if self.corrupt is None else self.corrupt(x)
        passes.seen.value.copy_(seen.flatten(1))
        for work in passes.forward:
            work()
        terms = self.head(passes, x, weight)
        for work in passes.backward:
            work()
        return terms

    def _passes(self, batch: int) -> Passes:
        found = self.kept.get(batch)
        if found is None:
            assert self.flat is not None
            if len(self.kept) >= MOST_SIZES:
                self.kept.clear()
            found = passes_of(
                self.form,
                batch,
                self.flat.slope_of(),
                code_slope=isinstance(self.head, AnyHead) and self.head.of_code,
            )
            self.kept[batch] = found
        return found


def closed_step(
    network: Network, objective: Objective, corrupt: Callable[[Tensor], Tensor] | None
) -> ClosedStep | None:
    """The closed form of a step, where there is one: see `DenseForm.of` and `head_of`."""
    form, head = DenseForm.of(network), head_of(network, objective)
    return None if form is None or head is None else ClosedStep(network, form, head, corrupt)
