"""Activations and their derivatives, written into memory that is already there."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_aten = torch.ops.aten


class Bend(NamedTuple):
    """An activation a = act(z) as two operations without allocations."""

    forward: Callable[..., object]
    """(z, out=a): write act(z) into a."""

    backward: Callable[..., object]
    """(slope, known, grad_input=slope): multiply the slope after the activation by act'(z)."""

    knows_output: bool = False
    """Whether `known` is a, else it is z."""


def _relu_back(slope: Tensor, a: Tensor, *, grad_input: Tensor) -> object:
    return _aten.threshold_backward.grad_input(slope, a, 0, grad_input=grad_input)


def _softplus_back(slope: Tensor, z: Tensor, *, grad_input: Tensor) -> object:
    return _aten.softplus_backward.grad_input(slope, z, 1, 20, grad_input=grad_input)


def _elu_back(slope: Tensor, z: Tensor, *, grad_input: Tensor) -> object:
    return _aten.elu_backward.grad_input(slope, 1, 1, 1, False, z, grad_input=grad_input)


BENDS: dict[str, Bend] = {
    "silu": Bend(_aten.silu.out, _aten.silu_backward.grad_input),
    "relu": Bend(_aten.relu.out, _relu_back, knows_output=True),
    "gelu": Bend(_aten.gelu.out, _aten.gelu_backward.grad_input),
    "tanh": Bend(torch.tanh, _aten.tanh_backward.grad_input, knows_output=True),
    "sigmoid": Bend(torch.sigmoid, _aten.sigmoid_backward.grad_input, knows_output=True),
    "softplus": Bend(_aten.softplus.out, _softplus_back),
    "elu": Bend(_aten.elu.out, _elu_back),
}
"""By the names of `kinds.ACTIVATIONS`; "linear" needs nothing done."""
