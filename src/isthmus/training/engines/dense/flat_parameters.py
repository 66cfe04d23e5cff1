"""All weights of a network in one stretch of memory, and all gradients in another."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Place(NamedTuple):
    """Where a parameter and its gradient are: as the parameter is, or (N, ...) of a stack.

    Where widths are rounded up, what is beyond the parameter's own is 0 and stays so.
    """

    value: Tensor
    slope: Tensor


class Flat:
    """The parameters of a network as views of one buffer, their gradients as views of a second.

    Matrices come first, so that what decays is one piece. While it is `bound`, whoever reads or
    writes parameters and their `.grad` works on these buffers without knowing it.
    """

    def __init__(self, network: nn.Module, *, multiple: int = 1, bf16: bool = False) -> None:
        """Widths rounded up to a `multiple`; with `bf16`, copies of that precision to work on."""
        parameters = [p for p in network.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.ndim > 1]
        self.parameters = matrices + [p for p in parameters if p.ndim <= 1]
        self.shapes = [[-(-n // multiple) * multiple for n in p.shape] for p in self.parameters]
        self.sizes = [torch.Size(shape).numel() for shape in self.shapes]
        self.matrices = sum(self.sizes[: len(matrices)])
        """How many numbers of the buffer are those of matrices."""

        self.values = self.parameters[0].detach().new_zeros(sum(self.sizes))
        for view, parameter in zip(self.views(self.values), self.parameters, strict=True):
            view.copy_(parameter.detach())
        self.slopes = torch.zeros_like(self.values)
        self._parts: tuple[list[Tensor], list[Tensor]] | None = None
        low = self.values.bfloat16() if bf16 else None
        self.low = None if low is None else Place(low, torch.zeros_like(low))
        """Copies of both buffers in lower precision, where a step works on these."""

    def whole(self, buffer: Tensor) -> list[Tensor]:
        """The parts of a buffer (..., P) that belong to each parameter, in rounded widths."""
        parts = zip(torch.split(buffer, self.sizes, -1), self.shapes, strict=True)
        return [part.view(*buffer.shape[:-1], *shape) for part, shape in parts]

    def views(self, buffer: Tensor) -> list[Tensor]:
        """The parts of a buffer (..., P) that are shaped as each parameter is."""
        parts = zip(self.whole(buffer), self.parameters, strict=True)
        return [corner(part, parameter.shape) for part, parameter in parts]

    @property
    def starts(self) -> dict[Tensor, int]:
        """Where each parameter begins in the buffers."""
        return dict(zip(self.parameters, itertools.accumulate(self.sizes, initial=0), strict=False))

    @property
    def parts(self) -> tuple[list[Tensor], list[Tensor]]:
        """The views of both buffers that belong to each parameter."""
        if self._parts is None:
            self._parts = self.views(self.values), self.views(self.slopes)
        return self._parts

    def places(self) -> dict[Tensor, Place]:
        """Where each parameter and its gradient are when a step works on them."""
        return self.places_in(*(self.low or (self.values, self.slopes)))

    def places_in(self, values: Tensor, slopes: Tensor) -> dict[Tensor, Place]:
        """Where they are in buffers (P,), or in those (N, P) of a stack."""
        places = map(Place, self.whole(values), self.whole(slopes))
        return dict(zip(self.parameters, places, strict=True))

    def move(self, values: Tensor, slopes: Tensor) -> None:
        """Move the parameters to other buffers of the same length."""
        self.values, self.slopes, self._parts = values, slopes, None
        self.gather()

    def lower(self) -> None:
        """Bring the copies of the weights up to date."""
        if self.low is not None:
            self.low.value.copy_(self.values)

    def lift(self) -> None:
        """Take the gradients from the copies."""
        if self.low is not None:
            self.slopes.copy_(self.low.slope)

    def gather(self) -> None:
        """Take back parameters that somebody has put elsewhere, as line searches do."""
        for parameter, value in zip(self.parameters, self.parts[0], strict=True):
            if parameter.data_ptr() != value.data_ptr():
                value.copy_(parameter.detach())
                parameter.data = value

    def attach(self) -> None:
        """Let each parameter's `.grad` be its part of the slopes."""
        for parameter, slope in zip(self.parameters, self.parts[1], strict=True):
            parameter.grad = slope

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Keep the parameters in the buffer for a while; they are on their own again behind it."""
        self.gather()
        try:
            yield
        finally:
            for parameter in self.parameters:
                own = parameter.detach().clone(memory_format=torch.contiguous_format)
                parameter.data, parameter.grad = own, None


def corner(part: Tensor, shape: Sequence[int]) -> Tensor:
    """The first numbers along each of the last dimensions."""
    for back, size in enumerate(reversed(shape), 1):
        part = part.narrow(-back, 0, size)
    return part
