"""All weights of a network in one buffer, and all gradients in another."""

# Shape letters: P numbers in a buffer, N networks of a batch of networks.

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn


class ParameterView(NamedTuple):
    """Views of a parameter and its gradient in the buffers, (*shape) or (N, *shape).

    If widths are padded, the padding is 0 and stays 0.
    """

    value: Tensor
    grad: Tensor


class FlatParameters:
    """The parameters of a network as views of one buffer, and their gradients of a second.

    Matrices come first, so that weight decay applies to one slice. Inside `bound`, the network's
    parameters and their `.grad` are views of these buffers.
    """

    def __init__(self, network: nn.Module, *, multiple: int = 1, bf16: bool = False) -> None:
        """Pad widths to a `multiple`; with `bf16`, also keep copies in that precision."""
        parameters = [p for p in network.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.ndim > 1]
        self.parameters = matrices + [p for p in parameters if p.ndim <= 1]
        self.shapes = [[-(-n // multiple) * multiple for n in p.shape] for p in self.parameters]
        self.sizes = [torch.Size(shape).numel() for shape in self.shapes]
        self.n_decayed = sum(self.sizes[: len(matrices)])
        """Numbers at the start of the buffer that belong to matrices."""

        self.values = self.parameters[0].detach().new_zeros(sum(self.sizes))
        for view, parameter in zip(self.views(self.values), self.parameters, strict=True):
            view.copy_(parameter.detach())
        self.grads = torch.zeros_like(self.values)
        self._views: tuple[list[Tensor], list[Tensor]] | None = None
        low = self.values.bfloat16() if bf16 else None
        self.bf16 = None if low is None else ParameterView(low, torch.zeros_like(low))
        """Copies of both buffers in bfloat16, if the step computes in that precision."""

    def padded_views(self, buffer: Tensor) -> list[Tensor]:
        """Each parameter's part of a buffer (..., P), with padded widths."""
        parts = zip(torch.split(buffer, self.sizes, -1), self.shapes, strict=True)
        return [part.view(*buffer.shape[:-1], *shape) for part, shape in parts]

    def views(self, buffer: Tensor) -> list[Tensor]:
        """Each parameter's part of a buffer (..., P), in the parameter's own shape."""
        parts = zip(self.padded_views(buffer), self.parameters, strict=True)
        return [leading_block(part, parameter.shape) for part, parameter in parts]

    @property
    def offsets(self) -> dict[Tensor, int]:
        """The position in the buffers at which each parameter begins."""
        return dict(zip(self.parameters, itertools.accumulate(self.sizes, initial=0), strict=False))

    @property
    def own_views(self) -> tuple[list[Tensor], list[Tensor]]:
        """The views of both buffers that belong to each parameter."""
        if self._views is None:
            self._views = self.views(self.values), self.views(self.grads)
        return self._views

    def parameter_views(self) -> dict[Tensor, ParameterView]:
        """Views of each parameter and its gradient in the precision a step computes in."""
        return self.views_in(*(self.bf16 or (self.values, self.grads)))

    def views_in(self, values: Tensor, grads: Tensor) -> dict[Tensor, ParameterView]:
        """Views of each parameter and its gradient in other buffers, (P,) or (N, P)."""
        views = map(ParameterView, self.padded_views(values), self.padded_views(grads))
        return dict(zip(self.parameters, views, strict=True))

    def relocate(self, values: Tensor, grads: Tensor) -> None:
        """Move the parameters to other buffers (P,)."""
        self.values, self.grads, self._views = values, grads, None
        self.reclaim()

    def sync_to_bf16(self) -> None:
        """Update the bfloat16 copies of the weights."""
        if self.bf16 is not None:
            self.bf16.value.copy_(self.values)

    def sync_from_bf16(self) -> None:
        """Copy the gradients from their bfloat16 buffer."""
        if self.bf16 is not None:
            self.grads.copy_(self.bf16.grad)

    def reclaim(self) -> None:
        """Copy back parameters whose data was replaced elsewhere, as line searches do."""
        for parameter, value in zip(self.parameters, self.own_views[0], strict=True):
            if parameter.data_ptr() != value.data_ptr():
                value.copy_(parameter.detach())
                parameter.data = value

    def attach_grads(self) -> None:
        """Make each parameter's `.grad` a view of the gradient buffer."""
        for parameter, grad in zip(self.parameters, self.own_views[1], strict=True):
            parameter.grad = grad

    @contextmanager
    def bound(self) -> Iterator[None]:
        """A context in which the parameters live in the buffer; after it they own their memory."""
        self.reclaim()
        try:
            yield
        finally:
            for parameter in self.parameters:
                copy = parameter.detach().clone(memory_format=torch.contiguous_format)
                parameter.data, parameter.grad = copy, None


def leading_block(part: Tensor, shape: Sequence[int]) -> Tensor:
    """The leading block of a padded tensor, of the given size along the last dimensions."""
    for back, size in enumerate(reversed(shape), 1):
        part = part.narrow(-back, 0, size)
    return part
