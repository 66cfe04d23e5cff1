"""Activations and their derivatives, written into memory that is already there."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_aten = torch.ops.aten


class Bend(NamedTuple):
    """An activation a = act(z) as two operations without allocations."""

    forward: Callable[[Tensor, Tensor], object]
    """(z, a): write act(z) into a."""

    backward: Callable[[Tensor, Tensor, Tensor], object]
    """(slope, z, a): multiply the slope after the activation by act'(z), in place."""


BENDS: dict[str, Bend] = {
    "silu": Bend(
        lambda z, a: _aten.silu.out(z, out=a),
        lambda slope, z, a: _aten.silu_backward.grad_input(slope, z, grad_input=slope),
    ),
    "relu": Bend(
        lambda z, a: _aten.relu.out(z, out=a),
        lambda slope, z, a: _aten.threshold_backward.grad_input(slope, a, 0, grad_input=slope),
    ),
    "gelu": Bend(
        lambda z, a: _aten.gelu.out(z, out=a),
        lambda slope, z, a: _aten.gelu_backward.grad_input(slope, z, grad_input=slope),
    ),
    "tanh": Bend(
        lambda z, a: torch.tanh(z, out=a),
        lambda slope, z, a: _aten.tanh_backward.grad_input(slope, a, grad_input=slope),
    ),
    "sigmoid": Bend(
        lambda z, a: torch.sigmoid(z, out=a),
        lambda slope, z, a: _aten.sigmoid_backward.grad_input(slope, a, grad_input=slope),
    ),
    "softplus": Bend(
        lambda z, a: _aten.softplus.out(z, out=a),
        lambda slope, z, a: _aten.softplus_backward.grad_input(slope, z, 1, 20, grad_input=slope),
    ),
    "elu": Bend(
        lambda z, a: _aten.elu.out(z, out=a),
        lambda slope, z, a: _aten.elu_backward.grad_input(
            slope, 1, 1, 1, False, z, grad_input=slope
        ),
    ),
}
"""By the names of `kinds.ACTIVATIONS`; "linear" needs nothing done."""
