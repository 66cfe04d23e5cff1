"""Adam on a GPU in two kernels that read every number once: for networks that memory limits.

Imported where it is used: Triton comes with torch for GPUs alone.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import triton
from torch import Tensor

from isthmus.training import kernels

PARTS, BLOCK = 512, 1024
"""Sums of squares that the norm is made of: always as many, so that rounding is always the same."""


class Moving(NamedTuple):
    """What moves, (P,) each: weights, slopes, moments, a copy in bf16; and the steps so far."""

    values: Tensor
    slopes: Tensor
    mean: Tensor
    square: Tensor
    low: Tensor | None
    steps: Tensor


class FusedAdam:
    """Clipping, decay and the step of torch's Adam or AdamW, and the copy in lower precision.

    Equations as in `torch.optim.Adam` (Kingma and Ba 2015) and `torch.optim.AdamW` (Loshchilov and
    Hutter 2019); the norm is that of `clip_grad_norm_`. Slopes are left as they are.
    """

    def __init__(
        self,
        moving: Moving,
        matrices: int,
        group: Mapping[str, Any],
        clip_norm: float | None,
        *,
        apart: bool,
    ) -> None:
        """Decay is of the first `matrices` numbers; `apart` from the gradient, as AdamW does."""
        self.moving, self.matrices, self.group = moving, matrices, group
        self.clip_norm, self.apart = clip_norm, apart
        self.parts = moving.values.new_zeros(PARTS)

    def __call__(self, rate: Tensor) -> None:
        """One step at a rate, a number on the device."""
        moving, group, n = self.moving, self.group, len(self.moving.values)
        (beta1, beta2), clips = group["betas"], self.clip_norm is not None
        kernels.squares[(PARTS,)](moving.slopes, self.parts, moving.steps, n, BLOCK, PARTS)
        kernels.adam[(triton.cdiv(n, BLOCK),)](
            moving.values,
            moving.slopes,
            moving.mean,
            moving.square,
            moving.values if moving.low is None else moving.low,
            self.parts,
            moving.steps,
            rate,
            0.0 if self.clip_norm is None else float(self.clip_norm),
            1 - beta1,
            1 - beta2,
            math.log(beta1) if beta1 else -math.inf,
            math.log(beta2) if beta2 else -math.inf,
            group["eps"],
            group["weight_decay"],
            self.matrices,
            n,
            CLIPS=clips,
            APART=self.apart,
            LOW=moving.low is not None,
            BLOCK=BLOCK,
            PARTS=PARTS,
        )
