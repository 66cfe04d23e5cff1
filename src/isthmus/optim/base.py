"""Optimizer specs: settings that build a torch optimizer, with a schedule and gradient clipping."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from isthmus.errors import require
from isthmus.optim.schedules import SCHEDULES
from isthmus.spec import Spec
from isthmus.types import HasCurvature

ParamGroup = dict[str, Any]
"""A parameter group as torch.optim takes it: "params" and their own settings."""

Closure = Callable[[], Tensor | float]
"""Computes the loss of the current batch and leaves its gradients in `.grad`."""


@dataclass(kw_only=True)
class OptimizerSpec(Spec):
    """Base of all optimizers: a learning rate with its schedule, weight decay and clipping.

    A subclass implements `make(groups)`, or `build(network, loss)` if it needs the network or the
    curvature of the loss.

    Example:
        >>> import torch
        >>> from isthmus.optim import SGD
        >>> spec = SGD(lr=0.1, warmup=0.5, schedule="linear")
        >>> spec.factors(range(4), 4)
        [0.5, 1.0, 1.0, 0.5]
        >>> [len(group["params"]) for group in spec.build(torch.nn.Linear(3, 2)).param_groups]
        [1, 1]
    """

    GRADIENT_BUDGET: ClassVar[int] = 5000
    """About how many gradients a fit of many rows needs; more gain little."""

    COMPARES_LOSSES: ClassVar[bool] = False
    """Whether it compares losses of one batch, whose small differences bfloat16 would lose."""

    OBSERVES_FORWARD: ClassVar[bool] = False
    """Whether it observes the network's forward pass, which only autograd runs."""

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
    """Decay of an exponential moving average of the weights, in [0, 1). That average is evaluated
    and saved instead of the weights (Polyak and Juditsky 1992). 0 is no average."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
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
    def gradients_per_step(self) -> int:
        """About how many gradients a step computes."""
        return 1

    def choose_batch_size(self, rows: int) -> int | None:
        """The batch size that suits the method for so many rows, or None if any does."""
        del rows
        return None

    def build(self, network: nn.Module, loss: HasCurvature | None = None) -> torch.optim.Optimizer:
        """The torch optimizer over the network's parameters; most methods ignore the loss."""
        del loss
        self.check()
        return self.make(parameter_groups(network.parameters(), self.weight_decay))

    def make(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        """The torch optimizer over parameter groups."""
        raise NotImplementedError

    def factor(self, step: int, total: int) -> float:
        """The share of `lr` in force at `step` of `total`, in [0, 1]; a function of these alone."""
        return self.factors(range(step, step + 1), total)[0]

    def factors(self, steps: range, total: int) -> list[float]:
        """The shares of `lr` in force at several steps."""
        rise, schedule = round(self.warmup * total), SCHEDULES[self.schedule]
        span = max(total - rise, 1)
        return [
            (step + 1) / rise if step < rise else schedule((step - rise) / span) for step in steps
        ]


class PicklableOptimizer(torch.optim.Optimizer):
    """A torch optimizer whose pickles and copies hold all of its attributes.

    torch.optim.Optimizer pickles only the attributes that every optimizer has.
    """

    def __getstate__(self) -> dict[str, object]:
        """All attributes."""
        return self.__dict__.copy()


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[ParamGroup]:
    """Two groups: matrices and filters, which decay, and biases and gates, which do not."""
    trained = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
