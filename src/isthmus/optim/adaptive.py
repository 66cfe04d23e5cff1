"""Adaptive methods: RMSprop, Adam and AdamW."""

from dataclasses import dataclass

import torch

from isthmus.errors import require
from isthmus.optim.base import OptimizerSpec, ParamGroup


@dataclass(kw_only=True)
class RMSprop(OptimizerSpec):
    """Gradients divided by the root of their running mean square (Tieleman and Hinton 2012).

    Example:
        >>> import torch
        >>> from isthmus.optim import RMSprop
        >>> RMSprop(alpha=0.9).build(torch.nn.Linear(3, 2)).param_groups[0]["alpha"]
        0.9
    """

    lr: float = 3e-3
    """The learning rate at its highest, > 0."""

    alpha: float = 0.99
    """Decay of the running mean of squares, in [0, 1)."""

    momentum: float = 0.0
    """Share of the last step that the next one repeats, in [0, 1)."""

    eps: float = 1e-6
    """Keeps the division finite, > 0."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        super().check()
        for name in ("alpha", "momentum"):
            value = getattr(self, name)
            require(0 <= value < 1, f"RMSprop: {name}={value} must be at least 0 and below 1")
        require(self.eps > 0, f"RMSprop: eps={self.eps} must be positive")

    def make(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        """torch.optim.RMSprop over parameter groups."""
        return torch.optim.RMSprop(
            groups, lr=self.lr, alpha=self.alpha, momentum=self.momentum, eps=self.eps
        )


@dataclass(kw_only=True)
class Adam(OptimizerSpec):
    """Adam (Kingma and Ba 2015); its weight decay is an L2 term in the gradient.

    Example:
        >>> import torch
        >>> from isthmus.optim import Adam
        >>> Adam(lr=0.01).build(torch.nn.Linear(3, 2)).param_groups[0]["lr"]
        0.01
    """

    lr: float = 3e-3
    """The learning rate at its highest, > 0."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square, each in [0, 1)."""

    eps: float = 1e-6
    """Keeps the division finite, > 0. It is large enough that rounding noise in a gradient that
    should be zero does not become a full step."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        super().check()
        name = type(self).__name__
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"{name}: betas={self.betas} must be two numbers at least 0 and below 1",
        )
        require(self.eps > 0, f"{name}: eps={self.eps} must be positive")

    def make(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        """torch.optim.Adam over parameter groups, one fused call per step."""
        return torch.optim.Adam(
            groups, lr=self.lr, betas=(self.betas[0], self.betas[1]), eps=self.eps, fused=True
        )


@dataclass(kw_only=True)
class AdamW(Adam):
    """Adam with weight decay decoupled from the gradient (Loshchilov and Hutter 2019).

    Example:
        >>> import torch
        >>> from isthmus.optim import AdamW
        >>> optimizer = AdamW(weight_decay=0.1).build(torch.nn.Linear(3, 2))
        >>> [group["weight_decay"] for group in optimizer.param_groups]
        [0.1, 0.0]
    """

    weight_decay: float = 1e-4
    """How strongly weight matrices are pulled to zero, >= 0; biases are left alone."""

    def make(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        """torch.optim.AdamW over parameter groups, one fused call per step."""
        return torch.optim.AdamW(
            groups, lr=self.lr, betas=(self.betas[0], self.betas[1]), eps=self.eps, fused=True
        )
