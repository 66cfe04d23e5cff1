"""The products of a dense layer and of its gradients, planned once and carried out many times."""

# Shape letters: B rows in a batch, I and O inputs and outputs of a layer.

import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Work = Callable[[], object]


class Products(Protocol):
    """What a dense layer needs, as work to be done in memory that is there already."""

    def affine(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Work]:
        """X (B, I) times matrix (I, O) plus offset (O,), written into `out`."""

    def affine_more(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Work]:
        """The same, added to what is in `out`."""

    def slopes(self, first: Tensor, second: Tensor, out: Tensor) -> list[Work]:
        """The transpose of `first` (B, .) times `second` (B, .): the slope in a weight."""

    def sums(self, slope: Tensor, out: Tensor) -> list[Work]:
        """The sum over rows: the slope in an offset."""

    def back(self, slope: Tensor, matrix: Tensor, out: Tensor) -> list[Work]:
        """The slope (B, O) times the transpose of matrix (I, O), written into `out`."""

    def back_more(self, slope: Tensor, matrix: Tensor, out: Tensor) -> list[Work]:
        """The same, added to what is in `out`."""


class ByTorch:
    """By torch, on any device."""

    def affine(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Work]:
        """In one operation."""
        return [functools.partial(torch.addmm, offset, x, matrix, out=out)]

    def affine_more(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Work]:
        """In two."""
        return [functools.partial(out.addmm_, x, matrix), functools.partial(out.add_, offset)]

    def slopes(self, first: Tensor, second: Tensor, out: Tensor) -> list[Work]:
        """In one operation."""
        return [functools.partial(torch.mm, first.mT, second, out=out)]

    def sums(self, slope: Tensor, out: Tensor) -> list[Work]:
        """In one operation: on a GPU as a product, which takes two thirds of the time of a sum."""
        if slope.is_cuda and slope.ndim == 2:
            ones = slope.new_ones(len(slope))
            return [functools.partial(torch.mv, slope.mT, ones, out=out)]
        return [functools.partial(torch.sum, slope, -2, out=out)]

    def back(self, slope: Tensor, matrix: Tensor, out: Tensor) -> list[Work]:
        """In one operation."""
        return [functools.partial(torch.mm, slope, matrix.mT, out=out)]

    def back_more(self, slope: Tensor, matrix: Tensor, out: Tensor) -> list[Work]:
        """In one operation."""
        return [functools.partial(out.addmm_, slope, matrix.mT)]


class OfStacks(ByTorch):
    """By torch, for stacks of N networks: everything has N of its parts, offsets (N, O)."""

    def affine(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Work]:
        """In one operation."""
        return [functools.partial(torch.baddbmm, offset[:, None], x, matrix, out=out)]

    def affine_more(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Work]:
        """In two."""
        return [
            functools.partial(out.baddbmm_, x, matrix),
            functools.partial(out.add_, offset[:, None]),
        ]

    def slopes(self, first: Tensor, second: Tensor, out: Tensor) -> list[Work]:
        """In two: a stack of products is one operation only where its answer lies in one piece."""
        piece = torch.empty_like(out, memory_format=torch.contiguous_format)
        return [
            functools.partial(torch.bmm, first.mT, second, out=piece),
            functools.partial(out.copy_, piece),
        ]

    def back(self, slope: Tensor, matrix: Tensor, out: Tensor) -> list[Work]:
        """In one operation."""
        return [functools.partial(torch.bmm, slope, matrix.mT, out=out)]

    def back_more(self, slope: Tensor, matrix: Tensor, out: Tensor) -> list[Work]:
        """In one operation."""
        return [functools.partial(out.baddbmm_, slope, matrix.mT)]


class ByNumpy:
    """By NumPy, on the same memory: what it asks for an operation is a third of what torch does."""

    def affine(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Work]:
        """In two operations."""
        to = out.numpy()
        return [
            functools.partial(np.dot, x.numpy(), matrix.numpy(), out=to),
            functools.partial(np.add, to, offset.numpy(), out=to),
        ]

    def affine_more(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Work]:
        """In three."""
        work, to = self.back_more(x, matrix.mT, out), out.numpy()
        return [*work, functools.partial(np.add, to, offset.numpy(), out=to)]

    def slopes(self, first: Tensor, second: Tensor, out: Tensor) -> list[Work]:
        """In one operation."""
        return [functools.partial(np.dot, first.numpy().T, second.numpy(), out=out.numpy())]

    def sums(self, slope: Tensor, out: Tensor) -> list[Work]:
        """In one operation: as a product it takes a third of the time of a sum."""
        ones = np.ones(len(slope), slope.numpy().dtype)
        return [functools.partial(np.dot, ones, slope.numpy(), out=out.numpy())]

    def back(self, slope: Tensor, matrix: Tensor, out: Tensor) -> list[Work]:
        """In one operation."""
        return [functools.partial(np.dot, slope.numpy(), matrix.numpy().T, out=out.numpy())]

    def back_more(self, slope: Tensor, matrix: Tensor, out: Tensor) -> list[Work]:
        """In two."""
        piece, to = torch.empty_like(out), out.numpy()
        return [
            *self.back(slope, matrix, piece),
            functools.partial(np.add, to, piece.numpy(), out=to),
        ]
