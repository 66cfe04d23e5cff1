"""All weights of a network in one stretch of memory, and all gradients in another."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Place(NamedTuple):
    """Where a parameter and its gradient are: as the parameter is, or (N, ...) of a stack."""

    value: Tensor
    slope: Tensor


class Flat:
    """The parameters of a network as views of one buffer, their gradients as views of a second.

    Matrices come first, so that what decays is one piece. While it is `bound`, whoever reads or
    writes parameters and their `.grad` works on these buffers without knowing it.
    """

    def __init__(self, network: nn.Module) -> None:
        parameters = [p for p in network.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.ndim > 1]
        self.parameters = matrices + [p for p in parameters if p.ndim <= 1]
        self.matrices = sum(p.numel() for p in matrices)
        """How many numbers of the buffer are those of matrices."""

        self.values = torch.cat([p.detach().flatten() for p in self.parameters])
        self.slopes = torch.zeros_like(self.values)

    def views(self, buffer: Tensor) -> list[Tensor]:
        """The parts of a buffer (..., P) of as many numbers that belong to each parameter."""
        lead, sizes = buffer.shape[:-1], [p.numel() for p in self.parameters]
        parts = zip(torch.split(buffer, sizes, -1), self.parameters, strict=True)
        return [part.view(*lead, *p.shape) for part, p in parts]

    def places(self) -> dict[Tensor, Place]:
        """Where each parameter and its gradient are."""
        return self.places_in(self.values, self.slopes)

    def places_in(self, values: Tensor, slopes: Tensor) -> dict[Tensor, Place]:
        """Where they are in buffers (P,), or in those (N, P) of a stack."""
        places = map(Place, self.views(values), self.views(slopes))
        return dict(zip(self.parameters, places, strict=True))

    def move(self, values: Tensor, slopes: Tensor) -> None:
        """Move the parameters to other buffers of the same length."""
        self.values, self.slopes = values, slopes
        self.gather()

    def gather(self) -> None:
        """Take back parameters that somebody has put elsewhere, as line searches do."""
        for parameter, value in zip(self.parameters, self.views(self.values), strict=True):
            if parameter.data_ptr() != value.data_ptr():
                value.copy_(parameter.detach())
                parameter.data = value

    def attach(self) -> None:
        """Let each parameter's `.grad` be its part of the slopes."""
        for parameter, slope in zip(self.parameters, self.views(self.slopes), strict=True):
            parameter.grad = slope

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Keep the parameters in the buffer for a while; they are on their own again behind it."""
        self.gather()
        try:
            yield
        finally:
            for parameter in self.parameters:
                parameter.data, parameter.grad = parameter.detach().clone(), None
