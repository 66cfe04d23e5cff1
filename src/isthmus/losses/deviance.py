"""The deviance of counts from their rates, Poisson's or the negative binomial's."""

import torch
from torch import Tensor
from torch.nn import functional

LEAST_DISPERSION = 1e-20
"""Stands for none: no double tells such a negative binomial from Poisson's."""


def half_deviance(log_rate: Tensor, x: Tensor, dispersion: Tensor) -> Tensor:
    """Log-likelihood of the counts `x` at their own rate less that at another, elementwise, >= 0.

    Of the negative binomial with mean m and variance m + dispersion m^2 (McCullagh and Nelder 1989,
    11.2), which is Poisson where the dispersion is 0.
    """
    spread = dispersion.clamp(min=LEAST_DISPERSION)
    own = torch.log1p(spread * x)
    deviance: Tensor = (
        torch.special.xlogy(x, x)
        - x * log_rate
        - (x + 1 / spread) * own
        + x * functional.softplus(log_rate + spread.log())
        + functional.softplus(log_rate + spread.log()) / spread
    )
    return deviance


def information(rate: Tensor, dispersion: Tensor) -> Tensor:
    """What a count tells of the logarithm of its rate: Fisher's information, elementwise."""
    return rate / (1 + dispersion * rate)
