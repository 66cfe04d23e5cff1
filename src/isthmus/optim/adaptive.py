"""Adaptive methods: RMSprop, Adam and AdamW."""

from dataclasses import dataclass
from typing import Any

import torch

from isthmus.errors import require
from isthmus.optim.base import OptimizerSpec


@dataclass(kw_only=True)
class RMSprop(OptimizerSpec):
    """Gradients divided by the root of their running mean square (Tieleman and Hinton 2012)."""

    lr: float = 3e-3
    """The learning rate at its highest, > 0."""

    alpha: float = 0.99
    """Decay of the running mean of squares, in [0, 1)."""

    momentum: float = 0.0
    """How much of the last step is kept, in [0, 1)."""

    eps: float = 1e-6
    """Keeps the division finite, > 0."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        super().check()
        for name in ("alpha", "momentum"):
            value = getattr(self, name)
            require(0 <= value < 1, f"RMSprop: {name}={value} must be at least 0 and below 1")
        require(self.eps > 0, f"RMSprop: eps={self.eps} must be positive")

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch.optim.RMSprop over parameter groups."""
        return torch.optim.RMSprop(
            groups, lr=self.lr, alpha=self.alpha, momentum=self.momentum, eps=self.eps
        )


@dataclass(kw_only=True)
class Adam(OptimizerSpec):
    """Adam (Kingma and Ba 2015); its weight decay is an L2 term in the gradient."""

    lr: float = 3e-3
    """The learning rate at its highest, > 0."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square, each in [0, 1)."""

    eps: float = 1e-6
    """Keeps the division finite, > 0; large enough that rounding noise in a gradient that should
    be zero is not blown up to a full step."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        super().check()
        name = type(self).__name__
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"{name}: betas={self.betas} must be two numbers at least 0 and below 1",
        )
        require(self.eps > 0, f"{name}: eps={self.eps} must be positive")

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch.optim.Adam over parameter groups, one fused call a step."""
        return torch.optim.Adam(
            groups, lr=self.lr, betas=(self.betas[0], self.betas[1]), eps=self.eps, fused=True
        )


@dataclass(kw_only=True)
class AdamW(Adam):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019)."""

    weight_decay: float = 1e-4
    """How strongly weight matrices are pulled to zero, >= 0; biases are left alone."""

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch.optim.AdamW over parameter groups, one fused call a step."""
        return torch.optim.AdamW(
            groups, lr=self.lr, betas=(self.betas[0], self.betas[1]), eps=self.eps, fused=True
        )
