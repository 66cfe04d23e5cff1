"""Quasi-Newton methods: L-BFGS."""

from dataclasses import dataclass
from typing import Any

import torch

from isthmus.errors import require
from isthmus.optim.base import Whole
from isthmus.optim.line_search import LineSearched


class QuasiNewton(torch.optim.LBFGS, Whole):
    """torch's, which can be copied."""


@dataclass(kw_only=True)
class LBFGS(LineSearched):
    """Limited-memory BFGS with a strong Wolfe line search (Liu and Nocedal 1989), by torch."""

    history: int = 10
    """Steps whose curvature is remembered, >= 1."""

    iterations: int = 5
    """Iterations on each batch, >= 1."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        super().check()
        require(self.history >= 1, f"LBFGS: history={self.history} must be at least 1")
        require(self.iterations >= 1, f"LBFGS: iterations={self.iterations} must be at least 1")

    @property
    def evaluations_a_step(self) -> int:
        """Gradients a step needs, about."""
        return self.iterations + 1

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch.optim.LBFGS over all parameters, which it wants in one group."""
        return QuasiNewton(
            [p for group in groups for p in group["params"]],
            lr=self.lr,
            max_iter=self.iterations,
            history_size=self.history,
            line_search_fn="strong_wolfe",
        )
