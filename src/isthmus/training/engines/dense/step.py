"""A training step without autograd, for networks of dense layers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from isthmus.kinds import DenseForm
from isthmus.losses import Objective
from isthmus.runtime.device import is_small
from isthmus.training.engines.base import Terms
from isthmus.training.engines.dense.choose_loss import head_of
from isthmus.training.engines.dense.flat_parameters import Flat
from isthmus.training.engines.dense.losses import Head
from isthmus.training.engines.dense.matmul import ByNumpy, ByTorch, Products
from isthmus.training.engines.dense.passes import Passes, passes_of
from isthmus.types import Network

MOST_SIZES = 8
"""Batch sizes whose passes are kept; all but the last batch of an epoch have one."""

TILE = 8
"""Of numbers in half precision; a GPU multiplies matrices of other widths at half the speed."""


class ClosedStep:
    """Losses and gradients of a dense network, carried out as they were once worked out.

    The same numbers as `AutogradStep`'s within rounding, from the same draws of noise.
    """

    engine = "closed form"

    def __init__(
        self,
        network: Network,
        form: DenseForm,
        head: Head,
        corrupt: Callable[[Tensor], Tensor] | None,
        *,
        bf16: bool = False,
    ) -> None:
        """With `bf16`, products are of that precision; weights and losses are as without."""
        self.network, self.form, self.head, self.corrupt = network, form, head, corrupt
        self.bf16 = bf16
        self.flat: Flat | None = None
        self.kept: dict[int, Passes] = {}

    @property
    def store(self) -> Flat:
        """The weights, while the step is bound."""
        assert self.flat is not None, "a step is taken while it is bound"
        return self.flat

    @property
    def draws(self) -> bool:
        """Whether a step asks for random numbers."""
        return self.corrupt is not None or self.form.dropout > 0 or self.form.code_dropout > 0

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Keep all weights in one stretch of memory for a while."""
        multiple = multiple_for(self.form, next(self.network.parameters()).device, bf16=self.bf16)
        self.flat = Flat(self.network, multiple=multiple, bf16=self.bf16)
        try:
            with self.flat.bound():
                yield
        finally:
            self.flat, self.kept = None, {}

    @torch.no_grad()
    @np.errstate(all="ignore")  # what is not finite is seen in the terms, as it is with torch
    def __call__(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Every term of the batch (B, *shape), detached; its gradient is left in `.grad`."""
        self.store.gather()
        terms = self.passed(x, weight)
        self.store.attach()
        return {
            name: torch.as_tensor(t, dtype=x.dtype, device=x.device) for name, t in terms.items()
        }

    @torch.no_grad()
    def passed(self, x: Tensor, weight: Tensor) -> Terms:
        """The terms of a batch; its gradient is left in the flat slopes."""
        self.store.lower()
        terms = self.worked(x, weight)
        self.store.lift()
        return terms

    @torch.no_grad()
    def worked(self, x: Tensor, weight: Tensor) -> Terms:
        """The same on copies in lower precision, where there are any, as they are."""
        passes = self._passes(len(x))
        self.feed(passes, x)
        for work in passes.forward:
            work()
        terms = self.head(passes, x, weight)
        for work in passes.backward:
            work()
        return terms

    def feed(self, passes: Passes, x: Tensor) -> None:
        """Give a batch to the forward pass, with all the noise there is."""
        seen = x if self.corrupt is None else self.corrupt(x)
        if passes.arrays is None:
            passes.seen.value.copy_(seen.flatten(1))
        else:
            np.copyto(passes.arrays.seen, seen.numpy().reshape(passes.arrays.seen.shape))
        passes.draw()

    def move(self, values: Tensor, slopes: Tensor) -> None:
        """Take the weights and their gradients to other buffers (P,)."""
        self.store.move(values, slopes)
        self.kept = {}

    def _passes(self, batch: int) -> Passes:
        found = self.kept.get(batch)
        if found is None:
            if len(self.kept) >= MOST_SIZES:
                self.kept.clear()
            low = self.store.low
            products = products_for(self.store.values if low is None else low.value, batch)
            found = passes_of(
                [self.form],
                batch,
                self.store.places(),
                products,
                code_slope=self.head.of_code,
                extra=self.head.of_layer,
            )
            self.kept[batch] = found
        return found


def products_for(weights: Tensor, batch: int) -> Products:
    """What multiplies: NumPy where each product is so small that asking for it is what costs."""
    small = is_small(batch * weights.numel(), weights.device)
    return ByNumpy() if small and weights.dtype != torch.bfloat16 else ByTorch()


def multiple_for(form: DenseForm, device: torch.device, *, bf16: bool) -> int:
    """What widths are rounded up to a multiple of."""
    steady = all(a.keeps_zero for a in form.activations)
    return TILE if bf16 and steady and device.type == "cuda" else 1


def closed_step(
    network: Network,
    objective: Objective,
    corrupt: Callable[[Tensor], Tensor] | None,
    *,
    bf16: bool = False,
) -> ClosedStep | None:
    """The closed form of a step, where there is one: see `DenseForm.of` and `head_of`."""
    form, head = DenseForm.of(network), head_of(network, objective)
    if form is None or head is None:
        return None
    if form.fill_value is not None and form.fill_value.is_cuda:
        return None  # losses of rows with gaps copy numbers to the device, which no graph can
    return ClosedStep(network, form, head, corrupt, bf16=bf16)
