"""Losses with hand-derived gradients, evaluated between the forward and the backward pass."""

# Shape letters: B rows in a batch, D features, K code units, N networks of a batch of networks.

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from isthmus.kinds import ACTIVATIONS, CodeNetwork
from isthmus.losses import RECONSTRUCTION, Objective, Squared
from isthmus.training.engines.base import Terms, equal_weights
from isthmus.training.engines.dense.passes import Arrays, Passes
from isthmus.types import Array, Network, Output, Step


class DenseLoss(Protocol):
    """The loss terms of a batch after its forward pass; gradients are written into the passes."""

    has_code_grad: bool
    """Whether the loss has a gradient of its own in the code."""

    grad_parameters: tuple[Tensor, ...]
    """Parameters in which the loss has a gradient that does not come from the output or code."""

    @property
    def penalty_names(self) -> tuple[str, ...]:
        """The names of all terms but the reconstruction."""

    def __call__(self, passes: Passes, x: Tensor, weight: Tensor) -> Terms:
        """The terms of the clean rows (B, *shape) with weights (B,)."""


class SquaredLoss:
    """The mean squared error in three operations."""

    has_code_grad = False
    grad_parameters: tuple[Tensor, ...] = ()

    def __init__(self, loss: Squared, zero_penalties: Iterable[str] = ()) -> None:
        self.penalty_names = tuple(zero_penalties)
        """Penalties of weight 0, which are reported as 0."""

        facts = loss.facts
        columns = None if facts is None else facts.columns
        self.share = 1.0 if facts is None or columns is None else facts.n_features / len(columns)

    def __call__(self, passes: Passes, x: Tensor, weight: Tensor) -> Terms:
        """The weighted mean over rows of the mean over features."""
        if passes.arrays is not None:
            return self._in_numpy(passes.arrays, x.numpy(), weight)
        return self.error_and_grad(passes, x.flatten(1), None if equal_weights(weight) else weight)

    def _in_numpy(self, arrays: Arrays, x: Array, weight: Tensor) -> dict[str, float]:
        deviation, grad = arrays.raw, arrays.grad
        np.subtract(deviation, x.reshape(deviation.shape), out=deviation)
        np.multiply(deviation, 2 * self.share / deviation.size, out=grad)
        if not equal_weights(weight):
            grad *= weight.numpy()[:, None]
        terms = dict.fromkeys(self.penalty_names, 0.0)
        terms[RECONSTRUCTION] = float(np.dot(deviation.ravel(), grad.ravel())) / 2
        return terms

    def error_and_grad(
        self, passes: Passes, rows: Tensor, weight: Tensor | None
    ) -> dict[str, Tensor]:
        """The same for rows (B, D) with weights (B,), or None if all are equal.

        For N networks, rows and weights have a first axis N, and each term is (N,).
        """
        raw, grad = passes.raw.value, passes.raw.grad
        assert grad is not None
        # Deviations keep the rows' precision if the output has a lower one.
        deviation = raw.sub_(rows) if raw.dtype == rows.dtype else raw - rows
        scale = self.share / (raw.shape[-2] * raw.shape[-1])
        weighted = deviation if weight is None else deviation * weight[..., None]
        torch.mul(weighted, 2 * scale, out=grad)
        error = torch.linalg.vecdot(deviation.flatten(-2), weighted.flatten(-2)) * scale
        return named_terms(self, error)


class AutogradLoss:
    """Any loss, and penalties on the code, by autograd from the decoder's output on."""

    grad_parameters: tuple[Tensor, ...] = ()

    def __init__(self, network: Network, objective: Objective) -> None:
        self.network, self.objective = network, objective
        self.has_code_grad = bool(objective.penalties)

    @property
    def penalty_names(self) -> tuple[str, ...]:
        """The names of the objective's penalties."""
        return tuple(self.objective.penalties)

    def __call__(self, passes: Passes, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """The terms of the objective."""
        raw = passes.raw.value.to(x.dtype).reshape(x.shape).detach().requires_grad_()
        code = passes.code.value.to(x.dtype).detach().requires_grad_()
        output = Output(raw, code)
        with torch.enable_grad():
            terms = self.objective(Step(self.network, x, x, output, weight))
            total = torch.stack(list(terms.values())).sum()
        nodes = (passes.raw, passes.code) if self.has_code_grad else (passes.raw,)
        leaves = (raw, code)[: len(nodes)]
        grads = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        for node, grad in zip(nodes, grads, strict=True):
            assert node.grad is not None
            node.grad.copy_(grad.flatten(1))
        return {name: term.detach() for name, term in terms.items()}


class ContractionLoss:
    """Another loss plus the contraction penalty of an encoder that is one dense layer.

    The penalty is sum_k act'(z_k)^2 |W_k|^2 of the clean rows (Rifai et al. 2011). Its gradient is
    2 act'(z_k) act''(z_k) |W_k|^2 in z_k, and 2 act'(z_k)^2 W_k in the weights themselves.
    """

    def __init__(
        self, other: DenseLoss, weights: Mapping[str, float], network: CodeNetwork
    ) -> None:
        """Take the penalty's weights by name; it may be there more than once."""
        assert network.linear is not None
        self.other, self.weights = other, weights
        activation = ACTIVATIONS[network.code_activation_name]
        assert activation.derivative is not None
        assert activation.second_derivative is not None
        self.derivative, self.second = activation.derivative, activation.second_derivative
        self.has_code_grad = other.has_code_grad
        layer = network.linear.encode_weight, network.linear.encode_bias
        self.grad_parameters: tuple[Tensor, ...] = layer

    @property
    def penalty_names(self) -> tuple[str, ...]:
        """The names of the other loss's penalties and of this one."""
        return (*self.other.penalty_names, *self.weights)

    def __call__(self, passes: Passes, x: Tensor, weight: Tensor) -> Terms:
        """The terms of the other loss and the contraction."""
        terms = dict(self.other(passes, x, weight))
        layer, bias = (parameter.detach() for parameter in self.grad_parameters)
        rows = x.flatten(1).to(layer.dtype)
        z = torch.addmm(bias, rows, layer.mT)
        derivative, norms = self.derivative(z), layer.square().sum(1)
        share = weight.to(layer.dtype) / len(rows)
        squares = share @ derivative.square()
        value = squares @ norms
        terms |= {name: factor * value for name, factor in self.weights.items()}
        total = 2 * sum(self.weights.values())
        z_grad = derivative.mul_(self.second(z)).mul_(norms).mul_(share[:, None])
        layer_grad, bias_grad = passes.extra
        torch.addmm(squares[:, None] * layer, z_grad.mT, rows, out=layer_grad).mul_(total)
        torch.sum(z_grad, 0, out=bias_grad).mul_(total)
        return terms


def named_terms(loss: DenseLoss, error: Tensor) -> dict[str, Tensor]:
    """The terms of a loss with this reconstruction error and penalties that are all 0."""
    return {RECONSTRUCTION: error} | {name: torch.zeros_like(error) for name in loss.penalty_names}
