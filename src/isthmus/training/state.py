"""Everything that changes during a fit: what a checkpoint must hold for an exact resume."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from isthmus.training.engines.base import Terms

Record = dict[str, Any]

TENSOR_FIELDS = ("average", "best")

FAR = 1e3
"""How many times the ceiling nobody's training loss reaches but by divergence."""

ALL_DONE = "all epochs done"
"""Why a fit stopped that went through every epoch."""


@dataclass
class State:
    """Where a fit stands. Randomness is a function of (seed, epoch, step), so position holds it."""

    seed: int
    """Decides batches, noise and dropout together with epoch and step."""

    epoch: int = 0
    """Epochs finished."""

    step: int = 0
    """Steps finished of the epoch under way."""

    lr_scale: float = 1.0
    """What rescues have left of the learning rate."""

    rescues: int = 0
    """How often training diverged and was brought back."""

    best_epoch: int = 0
    best_loss: float = float("inf")
    waited: int = 0
    """Epochs since the best one, for early stopping."""

    ceiling: float = float("inf")
    """An epoch whose losses are above this, of training and of judged rows, has diverged."""

    seconds: float = 0.0
    """Time spent in the fit so far, over all its runs."""

    stopped: str = ""
    """Why the fit ended, or "" while it goes on."""

    sums: dict[str, Tensor | float] = field(default_factory=dict)
    """The terms of the steps of the epoch under way, summed over rows; on a device, where one
    trains, since every look there waits for it."""

    history: list[Record] = field(default_factory=list)
    """One record an epoch, and one for each event."""

    average: dict[str, Tensor] = field(default_factory=dict)
    """The running mean of the weights, where one is kept."""

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

    def strayed(self, judged: Mapping[str, float], learned: Mapping[str, float]) -> float | None:
        """The loss of an epoch that tells that training has diverged; None where none does."""
        ours, theirs = sum(judged.values()), sum(learned.values())
        # Outputs that are cut off where ranges end bound the loss of held-out rows, however far off
        # the network is: where these are no better than before, training rows alone tell it.
        if theirs > FAR * self.ceiling and ours > self.best_loss:
            return theirs
        # A batch may hold the one row that outweighs all others, dropout raises the loss of
        # training, learning by heart that of held-out rows: only both together are divergence.
        both = min(ours, theirs)
        return None if both <= self.ceiling else both

    def add(self, sums: Terms) -> None:
        """Add the terms of some steps, summed over their rows."""
        for name, term in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + term
