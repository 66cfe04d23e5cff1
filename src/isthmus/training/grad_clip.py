"""Gradients shortened to a norm, as torch's `clip_grad_norm_` does it.

On a processor also where squares are beyond single precision: there torch's norm is infinite, and
what it shortens is nothing.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

TINY = 1e-6
"""What `clip_grad_norm_` adds to the norm."""

FEW, LARGE = 1 << 16, 1e30
"""Slopes whose norm is a product of NumPy's, and the square of the norm up to which it is."""


def norms(slopes: Tensor) -> Tensor:
    """(...): the norms of slopes (..., P)."""
    found: Tensor = torch.linalg.vector_norm(slopes, dim=-1)
    if slopes.device.type == "cpu" and bool(found.isinf().any()):
        found = torch.linalg.vector_norm(slopes, dim=-1, dtype=torch.float64).to(found)
    return found


def clip(parameters: Iterable[nn.Parameter], most: float) -> None:
    """Shorten the gradients of all parameters together to a norm of at most `most`."""
    known = [parameter for parameter in parameters if parameter.grad is not None]
    slopes = [parameter.grad for parameter in known if parameter.grad is not None]
    norm = nn.utils.get_total_norm(slopes)
    if norm.device.type == "cpu" and bool(norm.isinf()):
        norm = nn.utils.get_total_norm([slope.double() for slope in slopes]).to(norm)
    nn.utils.clip_grads_with_norm_(known, most, norm)


def clipper(slopes: Tensor, most: float | None) -> Callable[[], None]:
    """What shortens slopes (P,) to a norm of at most `most`."""
    if most is None:
        return lambda: None
    if slopes.device.type != "cpu":
        # Without waiting for the device.
        return lambda: _shorten(slopes, most)
    known = slopes.numpy()

    def shorten() -> None:
        square = float(np.dot(known, known)) if len(known) < FEW else math.inf
        norm = math.sqrt(square) if square < LARGE else float(norms(slopes))
        share = most / (norm + TINY)
        if not share >= 1:  # also where it is not a number
            slopes.mul_(share)

    return shorten


def _shorten(slopes: Tensor, most: float) -> None:
    slopes.mul_((most / (norms(slopes) + TINY)).clamp(max=1.0))
