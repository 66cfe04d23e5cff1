"""Gradient methods: SGD with momentum, and Nesterov's."""

from dataclasses import dataclass
from typing import Any

import torch

from isthmus.errors import require
from isthmus.optim.base import OptimizerSpec


@dataclass(kw_only=True)
class SGD(OptimizerSpec):
    """Stochastic gradient descent with momentum (Polyak 1964)."""

    lr: float = 0.15
    """The learning rate at its highest, > 0."""

    momentum: float = 0.9
    """How much of the last step is kept, in [0, 1)."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        super().check()
        require(
            0 <= self.momentum < 1,
            f"{type(self).__name__}: momentum={self.momentum} must be at least 0 and below 1",
        )

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch.optim.SGD over parameter groups."""
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum)


@dataclass(kw_only=True)
class Nesterov(SGD):
    """SGD with the gradient taken where momentum leads (Nesterov 1983; Sutskever et al. 2013)."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        super().check()
        require(self.momentum > 0, "Nesterov: momentum=0 has nowhere to look ahead; use SGD")

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch.optim.SGD with nesterov=True over parameter groups."""
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=True)
