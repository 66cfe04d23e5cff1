"""Gradient descent with momentum: SGD and Nesterov."""

from dataclasses import dataclass

import torch

from isthmus.errors import require
from isthmus.optim.base import OptimizerSpec, ParamGroup


@dataclass(kw_only=True)
class SGD(OptimizerSpec):
    """Stochastic gradient descent with momentum (Polyak 1964).

    Example:
        >>> import torch
        >>> from isthmus.optim import SGD
        >>> SGD(momentum=0.8).build(torch.nn.Linear(3, 2)).param_groups[0]["momentum"]
        0.8
    """

    lr: float = 0.15
    """The learning rate at its highest, > 0."""

    momentum: float = 0.9
    """Share of the last step that the next one repeats, in [0, 1)."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        super().check()
        require(
            0 <= self.momentum < 1,
            f"{type(self).__name__}: momentum={self.momentum} must be at least 0 and below 1",
        )

    def make(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        """torch.optim.SGD over parameter groups."""
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum)


@dataclass(kw_only=True)
class Nesterov(SGD):
    """SGD with the gradient at the point that momentum leads to.

    Source: Nesterov (1983); Sutskever et al. (2013).

    Example:
        >>> import torch
        >>> from isthmus.optim import Nesterov
        >>> Nesterov().build(torch.nn.Linear(3, 2)).param_groups[0]["nesterov"]
        True
    """

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        super().check()
        require(self.momentum > 0, "Nesterov: momentum=0 is plain SGD; use SGD")

    def make(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        """torch.optim.SGD with nesterov=True over parameter groups."""
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=True)
