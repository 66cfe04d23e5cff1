"""A training step of a dense network with hand-derived gradients, without autograd."""

# Shape letters: B rows in a batch, P numbers in a buffer.

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from isthmus.kinds import DenseForm
from isthmus.losses import Objective
from isthmus.runtime.threads import is_small
from isthmus.training.engines.base import Corrupt, Terms
from isthmus.training.engines.dense.choose_loss import dense_loss_for
from isthmus.training.engines.dense.flat_parameters import FlatParameters
from isthmus.training.engines.dense.losses import DenseLoss
from isthmus.training.engines.dense.matmul import MatMul, NumpyMatMul, TorchMatMul
from isthmus.training.engines.dense.passes import Passes, plan_passes
from isthmus.types import Network

MAX_BATCH_SIZES = 8
"""Batch sizes whose passes are cached; all batches of an epoch but the last have one size."""

TILE = 8
"""Numbers in half precision; a GPU multiplies matrices of other widths at half the speed."""


class ManualStep:
    """Losses and gradients of a dense network by precomputed forward and backward passes.

    They equal those of autograd within rounding, with the same random numbers.
    """

    def __init__(
        self,
        network: Network,
        form: DenseForm,
        loss: DenseLoss,
        corrupt: Corrupt | None,
        *,
        bf16: bool = False,
    ) -> None:
        """With `bf16`, matrices are multiplied in that precision; weights and losses are not."""
        self.network, self.form, self.loss, self.corrupt = network, form, loss, corrupt
        self.bf16 = bf16
        self._flat: FlatParameters | None = None
        self._passes_of_size: dict[int, Passes] = {}

    @property
    def flat_parameters(self) -> FlatParameters:
        """The weights in one buffer, inside `bound`."""
        assert self._flat is not None, "steps are taken inside bound()"
        return self._flat

    @property
    def is_random(self) -> bool:
        """Whether a step draws random numbers."""
        return self.corrupt is not None or self.form.dropout > 0 or self.form.code_dropout > 0

    @contextmanager
    def bound(self) -> Iterator[None]:
        """A context in which all weights lie in one buffer."""
        multiple = width_multiple(self.form, next(self.network.parameters()).device, bf16=self.bf16)
        self._flat = FlatParameters(self.network, multiple=multiple, bf16=self.bf16)
        try:
            with self._flat.bound():
                yield
        finally:
            self._flat, self._passes_of_size = None, {}

    @torch.no_grad()
    @np.errstate(all="ignore")  # non-finite values show in the terms, as with torch
    def __call__(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Return every term of the batch (B, *shape), detached; leave its gradient in `.grad`."""
        self.flat_parameters.reclaim()
        terms = self.forward_backward(x, weight)
        self.flat_parameters.attach_grads()
        return {
            name: torch.as_tensor(t, dtype=x.dtype, device=x.device) for name, t in terms.items()
        }

    @torch.no_grad()
    def forward_backward(self, x: Tensor, weight: Tensor) -> Terms:
        """The terms of a batch; its gradient is left in the gradient buffer."""
        self.flat_parameters.sync_to_bf16()
        terms = self.run_passes(x, weight)
        self.flat_parameters.sync_from_bf16()
        return terms

    @torch.no_grad()
    def run_passes(self, x: Tensor, weight: Tensor) -> Terms:
        """The same on the bfloat16 copies of the weights, if there are any, without syncing."""
        passes = self._passes(len(x))
        self.load_batch(passes, x)
        for operation in passes.forward:
            operation()
        terms = self.loss(passes, x, weight)
        for operation in passes.backward:
            operation()
        return terms

    def load_batch(self, passes: Passes, x: Tensor) -> None:
        """Copy a batch into the forward pass, and draw its noise."""
        seen = x if self.corrupt is None else self.corrupt(x)
        if passes.arrays is None:
            passes.seen.value.copy_(seen.flatten(1))
        else:
            np.copyto(passes.arrays.seen, seen.numpy().reshape(passes.arrays.seen.shape))
        passes.draw_dropout()

    def relocate(self, values: Tensor, grads: Tensor) -> None:
        """Move weights and gradients to other buffers (P,)."""
        self.flat_parameters.relocate(values, grads)
        self._passes_of_size = {}

    def _passes(self, batch: int) -> Passes:
        passes = self._passes_of_size.get(batch)
        if passes is None:
            if len(self._passes_of_size) >= MAX_BATCH_SIZES:
                self._passes_of_size.clear()
            flat = self.flat_parameters
            matmul = matmul_for(flat.values if flat.bf16 is None else flat.bf16.value, batch)
            passes = plan_passes(
                [self.form],
                batch,
                flat.parameter_views(),
                matmul,
                code_grad=self.loss.has_code_grad,
                extra=self.loss.grad_parameters,
            )
            self._passes_of_size[batch] = passes
        return passes


def matmul_for(weights: Tensor, batch: int) -> MatMul:
    """NumPy if products are so small that calling torch costs more than the product itself."""
    small = is_small(batch * weights.numel(), weights.device)
    return NumpyMatMul() if small and weights.dtype != torch.bfloat16 else TorchMatMul()


def width_multiple(form: DenseForm, device: torch.device, *, bf16: bool) -> int:
    """The multiple to which layer widths are padded."""
    keeps_zero = all(activation.keeps_zero for activation in form.activations)
    return TILE if bf16 and keeps_zero and device.type == "cuda" else 1


def manual_step(
    network: Network, objective: Objective, corrupt: Corrupt | None, *, bf16: bool = False
) -> ManualStep | str:
    """The manual step of a network and objective, or the reason why it is unavailable."""
    form = DenseForm.of(network)
    if form is None:
        return "the network is not a chain of dense layers with a supported activation"
    loss = dense_loss_for(network, objective)
    if loss is None:
        return "a penalty needs more than the code"
    if form.fill_value is not None and form.fill_value.is_cuda:
        # Losses of rows with missing values copy numbers to the device, which no graph can.
        return "missing values on a GPU"
    return ManualStep(network, form, loss, corrupt, bf16=bf16)
