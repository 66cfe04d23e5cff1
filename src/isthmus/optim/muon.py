"""Muon for matrices, AdamW for the other parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.errors import require
from isthmus.optim.adaptive import AdamW
from isthmus.optim.base import Closure, OptimizerSpec, ParamGroup, PicklableOptimizer

SMALLEST_BATCH, LARGEST_BATCH, STEPS_PER_EPOCH = 64, 2048, 30


class CombinedOptimizer(PicklableOptimizer):
    """Several optimizers as one, each over its own parameters, with one state to save."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def step(self, closure: Closure | None = None) -> Tensor | float | None:  # type: ignore[override]
        """Take one step of each optimizer, after `closure` if given; return the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict()` returned."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        # The parts use this optimizer's groups and state, so that rates and states set here
        # reach them.
        begin = 0
        for part in self.parts:
            end = begin + len(part.param_groups)
            part.param_groups = self.param_groups[begin:end]
            part.state = self.state
            begin = end


@dataclass(kw_only=True)
class Muon(OptimizerSpec):
    """Orthogonalized momentum for weight matrices (Jordan et al. 2024); AdamW for the rest.

    Example:
        >>> import torch
        >>> from isthmus.optim import Muon
        >>> optimizer = Muon(lr=0.02).build(torch.nn.Linear(3, 2))
        >>> [type(part).__name__ for part in optimizer.parts]
        ['Muon', 'AdamW']
    """

    GRADIENT_BUDGET: ClassVar[int] = 3500

    lr: float = 0.05
    """The learning rate of matrices at its highest, > 0."""

    momentum: float = 0.95
    """Share of the last step that the next one repeats, in [0, 1)."""

    weight_decay: float = 0.3
    """How strongly weight matrices are pulled to zero, >= 0; biases are left alone. Each step
    adds singular values of about `lr`, so that none grows much beyond 1 / weight_decay."""

    ns_steps: int = 3
    """Newton-Schulz iterations that make a matrix nearly orthogonal, >= 1."""

    adamw_lr: float = 3e-3
    """The learning rate of biases, gates and filters at its highest, > 0."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        super().check()
        require(
            0 <= self.momentum < 1,
            f"Muon: momentum={self.momentum} must be at least 0 and below 1",
        )
        require(self.ns_steps >= 1, f"Muon: ns_steps={self.ns_steps} must be at least 1")
        require(self.adamw_lr > 0, f"Muon: adamw_lr={self.adamw_lr} must be positive")

    def choose_batch_size(self, rows: int) -> int:
        """A power of two from 64 to 2048 that gives about 30 steps per epoch.

        Large batches pay, since the cost of orthogonalization does not grow with them.
        """
        power = 2 ** round(np.log2(max(rows / STEPS_PER_EPOCH, 1)))
        return int(np.clip(power, SMALLEST_BATCH, LARGEST_BATCH))

    def relative_cost(self, network: nn.Module, batch_size: int) -> float:
        """Multiply-adds of the orthogonalization for each one of a batch's gradient.

        A Newton-Schulz iteration of a matrix (m, n) with m <= n has three products, of m * m * n,
        m * m * m and m * m * n multiply-adds. A gradient of B rows has three of B * m * n.
        """
        sides = [sorted(p.shape) for p in network.parameters() if p.ndim == 2]
        iteration = sum(2 * m * m * n + m**3 for m, n in sides)
        gradient = sum(3 * batch_size * m * n for m, n in sides)
        return self.ns_steps * iteration / max(gradient, 1)

    def make(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        """torch.optim.Muon over the matrices and torch.optim.AdamW over all other parameters."""
        parameters = [p for group in groups for p in group["params"]]
        matrices = [p for p in parameters if p.ndim == 2]
        rest = [p for p in parameters if p.ndim != 2]
        parts: list[torch.optim.Optimizer] = []
        if matrices:
            parts.append(
                torch.optim.Muon(
                    matrices,
                    lr=self.lr,
                    momentum=self.momentum,
                    weight_decay=self.weight_decay,
                    ns_steps=self.ns_steps,
                )
            )
        if rest:
            parts.append(AdamW(lr=self.adamw_lr).make([{"params": rest, "weight_decay": 0.0}]))
        return CombinedOptimizer(parts)
