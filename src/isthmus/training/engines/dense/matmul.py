"""Matrix products of a dense layer and its gradients, planned once and run many times."""

# Shape letters: B rows in a batch, I and O inputs and outputs of a layer.

import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Operation = Callable[[], object]


class MatMul(Protocol):
    """The operations of a dense layer, each writing into preallocated memory."""

    def affine(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Operation]:
        """Out = x (B, I) @ matrix (I, O) + offset (O,)."""

    def affine_add(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Operation]:
        """The same, added to `out`."""

    def weight_grad(self, first: Tensor, second: Tensor, out: Tensor) -> list[Operation]:
        """Out = first.T @ second, both (B, .): the gradient in a weight."""

    def bias_grad(self, grad: Tensor, out: Tensor) -> list[Operation]:
        """Out = grad.sum(0): the gradient in a bias."""

    def input_grad(self, grad: Tensor, matrix: Tensor, out: Tensor) -> list[Operation]:
        """Out = grad (B, O) @ matrix.T, with matrix (I, O)."""

    def input_grad_add(self, grad: Tensor, matrix: Tensor, out: Tensor) -> list[Operation]:
        """The same, added to `out`."""


class TorchMatMul:
    """Matrix products by torch, on any device."""

    def affine(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Operation]:
        """One operation."""
        return [functools.partial(torch.addmm, offset, x, matrix, out=out)]

    def affine_add(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Operation]:
        """Two operations."""
        return [functools.partial(out.addmm_, x, matrix), functools.partial(out.add_, offset)]

    def weight_grad(self, first: Tensor, second: Tensor, out: Tensor) -> list[Operation]:
        """One operation."""
        return [functools.partial(torch.mm, first.mT, second, out=out)]

    def bias_grad(self, grad: Tensor, out: Tensor) -> list[Operation]:
        """One operation: on a GPU a product, which takes two thirds of the time of a sum."""
        if grad.is_cuda and grad.ndim == 2:
            ones = grad.new_ones(len(grad))
            return [functools.partial(torch.mv, grad.mT, ones, out=out)]
        return [functools.partial(torch.sum, grad, -2, out=out)]

    def input_grad(self, grad: Tensor, matrix: Tensor, out: Tensor) -> list[Operation]:
        """One operation."""
        return [functools.partial(torch.mm, grad, matrix.mT, out=out)]

    def input_grad_add(self, grad: Tensor, matrix: Tensor, out: Tensor) -> list[Operation]:
        """One operation."""
        return [functools.partial(out.addmm_, grad, matrix.mT)]


class BatchedMatMul(TorchMatMul):
    """Matrix products of N networks at once: every tensor has a first axis N, biases are (N, O)."""

    def affine(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Operation]:
        """One operation."""
        return [functools.partial(torch.baddbmm, offset[:, None], x, matrix, out=out)]

    def affine_add(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Operation]:
        """Two operations."""
        return [
            functools.partial(out.baddbmm_, x, matrix),
            functools.partial(out.add_, offset[:, None]),
        ]

    def weight_grad(self, first: Tensor, second: Tensor, out: Tensor) -> list[Operation]:
        """Two operations: torch needs a contiguous result for a batched product."""
        product = torch.empty_like(out, memory_format=torch.contiguous_format)
        return [
            functools.partial(torch.bmm, first.mT, second, out=product),
            functools.partial(out.copy_, product),
        ]

    def input_grad(self, grad: Tensor, matrix: Tensor, out: Tensor) -> list[Operation]:
        """One operation."""
        return [functools.partial(torch.bmm, grad, matrix.mT, out=out)]

    def input_grad_add(self, grad: Tensor, matrix: Tensor, out: Tensor) -> list[Operation]:
        """One operation."""
        return [functools.partial(out.baddbmm_, grad, matrix.mT)]


class NumpyMatMul:
    """Matrix products by NumPy on the same memory, with a third of torch's overhead per call."""

    def affine(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Operation]:
        """Two operations."""
        target = out.numpy()
        return [
            functools.partial(np.dot, x.numpy(), matrix.numpy(), out=target),
            functools.partial(np.add, target, offset.numpy(), out=target),
        ]

    def affine_add(self, x: Tensor, matrix: Tensor, offset: Tensor, out: Tensor) -> list[Operation]:
        """Three operations."""
        operations, target = self.input_grad_add(x, matrix.mT, out), out.numpy()
        return [*operations, functools.partial(np.add, target, offset.numpy(), out=target)]

    def weight_grad(self, first: Tensor, second: Tensor, out: Tensor) -> list[Operation]:
        """One operation."""
        return [functools.partial(np.dot, first.numpy().T, second.numpy(), out=out.numpy())]

    def bias_grad(self, grad: Tensor, out: Tensor) -> list[Operation]:
        """One operation: a product, which takes a third of the time of a sum."""
        ones = np.ones(len(grad), grad.numpy().dtype)
        return [functools.partial(np.dot, ones, grad.numpy(), out=out.numpy())]

    def input_grad(self, grad: Tensor, matrix: Tensor, out: Tensor) -> list[Operation]:
        """One operation."""
        return [functools.partial(np.dot, grad.numpy(), matrix.numpy().T, out=out.numpy())]

    def input_grad_add(self, grad: Tensor, matrix: Tensor, out: Tensor) -> list[Operation]:
        """Two operations."""
        product, target = torch.empty_like(out), out.numpy()
        return [
            *self.input_grad(grad, matrix, product),
            functools.partial(np.add, target, product.numpy(), out=target),
        ]
