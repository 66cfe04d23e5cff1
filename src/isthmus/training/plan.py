"""The plan of a fit: its length, batches, clipping and stopping rules."""

from dataclasses import dataclass


def full_rate(steps: range, total: int) -> list[float]:
    """The factors of the learning rate at `steps` out of `total`, without a schedule: all 1."""
    del total
    return [1.0] * len(steps)


@dataclass
class Plan:
    """How long to train, and when to stop."""

    max_epochs: int
    batch_size: int
    patience: int | None
    """Epochs without a better validation loss before stopping, or None for no early stopping."""

    clip_norm: float | None
    """The largest gradient norm, or None for no clipping."""

    ema_decay: float = 0.0
    """The decay of the exponential moving average of the weights, or 0 for no average.

    The averaged weights are then evaluated and become the result.
    """

    plateau: int | None = None
    """Epochs without a better loss before the learning rate is halved, or None for never."""

    check_every: int = 1
    """Steps between checks that the loss is finite; each check waits for the device."""

    steps: int = 0
    """About how many steps all epochs take together, or 0 if unknown."""
