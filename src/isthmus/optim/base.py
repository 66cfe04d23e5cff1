"""Optimizer specs: settings that build a torch optimizer, with a schedule and gradient clipping."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from isthmus.errors import require
from isthmus.optim.schedules import SCHEDULES
from isthmus.spec import Spec
from isthmus.types import Predictive


@dataclass(kw_only=True)
class OptimizerSpec(Spec):
    """What every optimizer has: a rate with its schedule, weight decay and clipping."""

    ENOUGH_GRADIENTS: ClassVar[int] = 5000
    """After about how many a fit of many rows has little to gain."""

    COMPARES: ClassVar[bool] = False
    """Whether losses of one batch decide its steps: their small differences are lost in bf16."""

    WATCHES: ClassVar[bool] = False
    """Whether its steps look on while the network passes rows forward and back."""

    lr: float = 1e-3
    """The learning rate at its highest, > 0."""

    weight_decay: float = 0.0
    """How strongly weight matrices are pulled to zero, >= 0; biases are left alone."""

    schedule: str = "cosine"
    """How the rate moves after the warm-up: one of `optim.SCHEDULES`."""

    warmup: float = 0.05
    """Share of the steps in which the rate rises from zero, in [0, 1)."""

    clip_norm: float | None = 1.0
    """Largest norm of the whole gradient, or None for no clipping."""

    ema_decay: float = 0.0
    """Decay of a running mean of the weights, in [0, 1); that mean is then what is judged and
    kept (Polyak and Juditsky 1992). 0 is none."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        name = type(self).__name__
        require(self.lr > 0, f"{name}: lr={self.lr} must be positive")
        require(
            self.weight_decay >= 0, f"{name}: weight_decay={self.weight_decay} must not be negative"
        )
        require(
            0 <= self.warmup < 1, f"{name}: warmup={self.warmup} must be at least 0 and below 1"
        )
        require(
            self.schedule in SCHEDULES,
            f"{name}: schedule={self.schedule!r} is not known; use one of {', '.join(SCHEDULES)}",
        )
        require(
            0 <= self.ema_decay < 1,
            f"{name}: ema_decay={self.ema_decay} must be at least 0 and below 1",
        )
        require(
            self.clip_norm is None or self.clip_norm > 0,
            f"{name}: clip_norm={self.clip_norm} must be positive, or None for no clipping",
        )

    @property
    def evaluations_a_step(self) -> int:
        """Gradients a step needs, about."""
        return 1

    def choose_batch_size(self, rows: int) -> int | None:
        """Rows a batch where the method has a wish of its own, else None."""
        del rows
        return None

    def build(self, network: nn.Module, loss: Predictive | None = None) -> torch.optim.Optimizer:
        """The torch optimizer over the network's parameters; a few ask for the loss."""
        del loss
        self.check()
        return self.make(parameter_groups(network.parameters(), self.weight_decay))

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The torch optimizer over parameter groups."""
        raise NotImplementedError

    def factor(self, step: int, total: int) -> float:
        """The share of `lr` in force at `step` of `total`, in [0, 1]; it has no memory."""
        return self.factors(range(step, step + 1), total)[0]

    def factors(self, steps: range, total: int) -> list[float]:
        """The same of several steps."""
        rise, schedule = round(self.warmup * total), SCHEDULES[self.schedule]
        span = max(total - rise, 1)
        return [
            (step + 1) / rise if step < rise else schedule((step - rise) / span) for step in steps
        ]


class Whole(torch.optim.Optimizer):
    """An optimizer whose copies are all that it is.

    torch's own have only what all optimizers have, and cannot go on where a method adds to that.
    """

    def __getstate__(self) -> dict[str, Any]:
        """Everything."""
        return self.__dict__.copy()


def parameter_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float
) -> list[dict[str, Any]]:
    """Two groups: matrices and filters, which decay, and biases and gates, which do not."""
    trained = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
