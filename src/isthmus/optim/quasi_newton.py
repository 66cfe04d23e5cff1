"""Quasi-Newton methods: L-BFGS."""

from dataclasses import dataclass

import torch

from isthmus.errors import require
from isthmus.optim.base import ParamGroup, PicklableOptimizer
from isthmus.optim.line_search import LineSearchOptimizer


class PicklableLBFGS(torch.optim.LBFGS, PicklableOptimizer):
    """torch.optim.LBFGS that can be copied and pickled."""


@dataclass(kw_only=True)
class LBFGS(LineSearchOptimizer):
    """Limited-memory BFGS with a strong Wolfe line search, by torch.optim.LBFGS.

    Source: Liu and Nocedal (1989).

    Example:
        >>> import torch
        >>> from isthmus.optim import LBFGS
        >>> LBFGS(history=5).build(torch.nn.Linear(3, 2)).param_groups[0]["history_size"]
        5
    """

    history: int = 10
    """Steps whose curvature is stored, >= 1."""

    iterations: int = 5
    """Iterations on each batch, >= 1."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        super().check()
        require(self.history >= 1, f"LBFGS: history={self.history} must be at least 1")
        require(self.iterations >= 1, f"LBFGS: iterations={self.iterations} must be at least 1")

    @property
    def gradients_per_step(self) -> int:
        """About how many gradients a step computes."""
        return self.iterations + 1

    def make(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        """torch.optim.LBFGS over all parameters, which it requires in one group."""
        return PicklableLBFGS(
            [p for group in groups for p in group["params"]],
            lr=self.lr,
            max_iter=self.iterations,
            history_size=self.history,
            line_search_fn="strong_wolfe",
        )
