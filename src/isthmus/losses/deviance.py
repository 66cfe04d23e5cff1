"""The deviance of counts: Poisson and negative binomial."""

import torch
from torch import Tensor
from torch.nn import functional

LEAST_DISPERSION = 1e-20
"""Replaces 0: in double precision such a negative binomial equals the Poisson distribution."""


def half_deviance(log_rate: Tensor, x: Tensor, dispersion: Tensor) -> Tensor:
    """The elementwise log-likelihood of counts `x` at the rate x minus that at another, >= 0.

    The negative binomial has mean m and variance m + dispersion m^2 (McCullagh and Nelder 1989,
    11.2). With dispersion 0 it is the Poisson distribution.
    """
    spread = dispersion.clamp(min=LEAST_DISPERSION)
    log1p = torch.log1p(spread * x)
    deviance: Tensor = (
        torch.special.xlogy(x, x)
        - x * log_rate
        - (x + 1 / spread) * log1p
        + x * functional.softplus(log_rate + spread.log())
        + functional.softplus(log_rate + spread.log()) / spread
    )
    return deviance


def information(rate: Tensor, dispersion: Tensor) -> Tensor:
    """The elementwise Fisher information of a count in the logarithm of its rate."""
    return rate / (1 + dispersion * rate)
