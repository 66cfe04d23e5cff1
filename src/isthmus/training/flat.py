"""All weights of a network in one stretch of memory, and all gradients in another."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


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
        """The parts of a buffer of the same length that belong to each parameter."""
        parts = torch.split(buffer, [p.numel() for p in self.parameters])
        return [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]

    def slope_of(self) -> dict[Tensor, Tensor]:
        """Where the gradient of each parameter is written."""
        return dict(zip(self.parameters, self.views(self.slopes), strict=True))

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
