"""Gradient clipping by norm, equal to torch's `clip_grad_norm_` but safe against overflow.

In single precision, torch's norm is infinite if the squares overflow, and clipping then sets the
gradient to zero. Here, such a norm is computed again in double precision on a processor.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

EPSILON = 1e-6
"""The number that `clip_grad_norm_` adds to the norm."""

MAX_NUMPY_SIZE, MAX_SQUARE = 1 << 16, 1e30
"""Sizes up to which NumPy computes the norm, and the largest squared norm to trust."""


def norms(grads: Tensor) -> Tensor:
    """(...): the norms of gradients (..., P)."""
    result: Tensor = torch.linalg.vector_norm(grads, dim=-1)
    if grads.device.type == "cpu" and bool(result.isinf().any()):
        result = torch.linalg.vector_norm(grads, dim=-1, dtype=torch.float64).to(result)
    return result


def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Scale the gradients of all parameters together down to a norm of at most `max_norm`."""
    with_grad = [parameter for parameter in parameters if parameter.grad is not None]
    grads = [parameter.grad for parameter in with_grad if parameter.grad is not None]
    norm = nn.utils.get_total_norm(grads)
    if norm.device.type == "cpu" and bool(norm.isinf()):
        norm = nn.utils.get_total_norm([grad.double() for grad in grads]).to(norm)
    nn.utils.clip_grads_with_norm_(with_grad, max_norm, norm)


def make_clipper(grads: Tensor, max_norm: float | None) -> Callable[[], None]:
    """A function that scales gradients (P,) down to a norm of at most `max_norm`, in place."""
    if max_norm is None:
        return lambda: None
    if grads.device.type != "cpu":
        return lambda: _clip_on_device(grads, max_norm)
    values = grads.numpy()

    def clip_values() -> None:
        square = float(np.dot(values, values)) if len(values) < MAX_NUMPY_SIZE else math.inf
        norm = math.sqrt(square) if square < MAX_SQUARE else float(norms(grads))
        share = max_norm / (norm + EPSILON)
        if not share >= 1:  # also if it is NaN
            grads.mul_(share)

    return clip_values


def _clip_on_device(grads: Tensor, max_norm: float) -> None:
    # Without waiting for the device to report the norm.
    grads.mul_((max_norm / (norms(grads) + EPSILON)).clamp(max=1.0))
