"""The state of a fit: everything a checkpoint must hold for an exact resume."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from isthmus.training.engines.base import Terms

Record = dict[str, Any]

TENSOR_FIELDS = ("average", "best")

DIVERGED_FACTOR = 1e3
"""A training loss above this many times the ceiling has diverged, whatever else is known."""

ALL_DONE = "all epochs done"
"""The reason for stopping of a fit that ran all epochs."""


@dataclass
class State:
    """The state of a fit. Random numbers are a function of (seed, epoch, step)."""

    seed: int
    """The seed of batches, noise and dropout."""

    epoch: int = 0
    """Epochs finished."""

    step: int = 0
    """Steps finished in the current epoch."""

    lr_scale: float = 1.0
    """The factor of the learning rate after divergence and plateaus."""

    restores: int = 0
    """How often training diverged and the best weights were restored."""

    best_epoch: int = 0
    best_loss: float = float("inf")
    waited: int = 0
    """Epochs since the best one, for early stopping."""

    ceiling: float = float("inf")
    """An epoch has diverged if its training and validation losses are both above this."""

    seconds: float = 0.0
    """Time spent in the fit so far, over all runs."""

    stopped: str = ""
    """The reason why the fit ended, or "" while it runs."""

    sums: dict[str, Tensor | float] = field(default_factory=dict)
    """The terms of the current epoch, summed over rows. They stay on the device of the fit, because
    reading them there waits for it."""

    history: list[Record] = field(default_factory=list)
    """One record per epoch, and one per event."""

    average: dict[str, Tensor] = field(default_factory=dict)
    """The exponential moving average of the weights, if `ema_decay` is set."""

    best: dict[str, Tensor] = field(default_factory=dict)
    """The best weights so far."""

    @property
    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The fields that hold tensors, by name."""
        return {name: getattr(self, name) for name in TENSOR_FIELDS}

    @property
    def done(self) -> bool:
        """Whether the fit has ended."""
        return bool(self.stopped)

    def diverged_loss(
        self, evaluated: Mapping[str, float], trained: Mapping[str, float]
    ) -> float | None:
        """The loss of an epoch if it shows that training has diverged, else None."""
        validation_loss, training_loss = sum(evaluated.values()), sum(trained.values())
        # Clamped outputs bound the validation loss however wrong the network is. If it has not
        # improved either, a huge training loss alone shows divergence.
        if training_loss > DIVERGED_FACTOR * self.ceiling and validation_loss > self.best_loss:
            return training_loss
        # One heavy row or dropout can raise the training loss, and overfitting the validation
        # loss. Only both together show divergence.
        smaller = min(validation_loss, training_loss)
        return None if smaller <= self.ceiling else smaller

    def add(self, sums: Terms) -> None:
        """Add the terms of some steps, summed over rows."""
        for name, term in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + term
