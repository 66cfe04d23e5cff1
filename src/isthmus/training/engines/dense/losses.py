"""What stands at the end of a forward pass: the losses, and their slopes to begin the way back."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from isthmus.kinds import ACTIVATIONS, CodeNetwork
from isthmus.losses import RECONSTRUCTION, Objective, Squared
from isthmus.training.engines.base import Terms, alike
from isthmus.training.engines.dense.passes import Arrays, Passes
from isthmus.types import Array, Network, Output, Step


class Head(Protocol):
    """Named losses of a batch whose forward pass is done; slopes are left in the passes."""

    of_code: bool
    """Whether the code has a slope of its own."""

    of_layer: tuple[Tensor, ...]
    """The parameters that have slopes of their own, which the way back does not know of."""

    @property
    def penalties(self) -> tuple[str, ...]:
        """The names of its terms but the reconstruction."""

    def __call__(self, passes: Passes, x: Tensor, weight: Tensor) -> Terms:
        """Of the clean rows (B, *shape) with their weights (B,)."""


class SquaredHead:
    """The mean squared error, in three operations."""

    of_code = False
    of_layer: tuple[Tensor, ...] = ()

    def __init__(self, loss: Squared, silent: Iterable[str] = ()) -> None:
        self.silent = tuple(silent)
        """Penalties without weight, which are 0."""

        facts = loss.facts
        columns = None if facts is None else facts.columns
        self.share = 1.0 if facts is None or columns is None else facts.n_features / len(columns)

    @property
    def penalties(self) -> tuple[str, ...]:
        """Those without weight."""
        return self.silent

    def __call__(self, passes: Passes, x: Tensor, weight: Tensor) -> Terms:
        """The weighted mean over rows of the mean over features."""
        if passes.arrays is not None:
            return self._by_numpy(passes.arrays, x.numpy(), weight)
        return self.judged(passes, x.flatten(1), None if alike(weight) else weight)

    def _by_numpy(self, arrays: Arrays, x: Array, weight: Tensor) -> dict[str, float]:
        off, slope = arrays.raw, arrays.slope
        np.subtract(off, x.reshape(off.shape), out=off)
        np.multiply(off, 2 * self.share / off.size, out=slope)
        if not alike(weight):
            slope *= weight.numpy()[:, None]
        terms = dict.fromkeys(self.silent, 0.0)
        terms[RECONSTRUCTION] = float(np.dot(off.ravel(), slope.ravel())) / 2
        return terms

    def judged(self, passes: Passes, rows: Tensor, weight: Tensor | None) -> dict[str, Tensor]:
        """The same for rows (B, D) with weights (B,), None where they are equal.

        Of a stack of N networks everything has N of these, and so has each term, which else is one
        number.
        """
        raw, slope = passes.raw.value, passes.raw.slope
        assert slope is not None
        # Deviations of numbers in half precision are none themselves.
        off = raw.sub_(rows) if raw.dtype == rows.dtype else raw - rows
        scale = self.share / (raw.shape[-2] * raw.shape[-1])
        weighted = off if weight is None else off * weight[..., None]
        torch.mul(weighted, 2 * scale, out=slope)
        told = torch.linalg.vecdot(off.flatten(-2), weighted.flatten(-2)) * scale
        return named(self, told)


class AnyHead:
    """Any loss, and penalties on the code, by autograd from the raw output on."""

    of_layer: tuple[Tensor, ...] = ()

    def __init__(self, network: Network, objective: Objective) -> None:
        self.network, self.objective = network, objective
        self.of_code = bool(objective.penalties)

    @property
    def penalties(self) -> tuple[str, ...]:
        """Those of the objective."""
        return tuple(self.objective.penalties)

    def __call__(self, passes: Passes, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """What the objective says."""
        raw = passes.raw.value.to(x.dtype).reshape(x.shape).detach().requires_grad_()
        code = passes.code.value.to(x.dtype).detach().requires_grad_()
        output = Output(raw, code)
        with torch.enable_grad():
            terms = self.objective(Step(self.network, x, x, output, weight))
            total = torch.stack(list(terms.values())).sum()
        nodes = (passes.raw, passes.code) if self.of_code else (passes.raw,)
        leaves = (raw, code)[: len(nodes)]
        found = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        for node, slope in zip(nodes, found, strict=True):
            assert node.slope is not None
            node.slope.copy_(slope.flatten(1))
        return {name: term.detach() for name, term in terms.items()}


class Contracted:
    """Another head, and how much the code of one dense layer follows its input.

    The penalty is sum_k act'(z_k)^2 |W_k|^2 of the clean rows (Rifai et al. 2011). Its slopes are
    2 act'(z_k) act''(z_k) |W_k|^2 in z_k, and 2 act'(z_k)^2 W_k in the weights themselves.
    """

    def __init__(self, rest: Head, weights: Mapping[str, float], network: CodeNetwork) -> None:
        """With the `weights` of the penalty, by name: it may be there more than once."""
        assert network.linear is not None
        self.rest, self.weights = rest, weights
        self.name = network.code_activation_name
        self.of_code = rest.of_code
        layer = network.linear.encode_weight, network.linear.encode_bias
        self.of_layer: tuple[Tensor, ...] = layer

    @property
    def penalties(self) -> tuple[str, ...]:
        """Those of the other head, and its own."""
        return (*self.rest.penalties, *self.weights)

    def __call__(self, passes: Passes, x: Tensor, weight: Tensor) -> Terms:
        """What the other says, and this."""
        terms = dict(self.rest(passes, x, weight))
        layer, bias = (parameter.detach() for parameter in self.of_layer)
        rows = x.flatten(1).to(layer.dtype)
        z = torch.addmm(bias, rows, layer.mT)
        slope, norms = ACTIVATIONS[self.name].derivative(z), layer.square().sum(1)
        share = weight.to(layer.dtype) / len(rows)
        squares = share @ slope.square()
        value = squares @ norms
        terms |= {name: factor * value for name, factor in self.weights.items()}
        whole = 2 * sum(self.weights.values())
        back = (
            slope.mul_(ACTIVATIONS[self.name].second_derivative(z)).mul_(norms).mul_(share[:, None])
        )
        of_layer, of_bias = passes.extra
        torch.addmm(squares[:, None] * layer, back.mT, rows, out=of_layer).mul_(whole)
        torch.sum(back, 0, out=of_bias).mul_(whole)
        return terms


def named(head: Head, told: Tensor) -> dict[str, Tensor]:
    """The terms of a head whose reconstruction error is `told`, and whose penalties are silent."""
    return {RECONSTRUCTION: told} | {name: torch.zeros_like(told) for name in head.penalties}
