"""How long a fit goes on, and how it goes about it."""

from dataclasses import dataclass


def full_rate(steps: range, total: int) -> list[float]:
    """The share of the learning rate in force at some steps of `total`, without a schedule."""
    del total
    return [1.0] * len(steps)


@dataclass
class Plan:
    """How long to train, and when to stop."""

    max_epochs: int
    batch_size: int
    patience: int | None
    """Epochs without a better held-out loss before stopping, or None for no early stopping."""

    clip_norm: float | None
    ema_decay: float = 0.0
    """Decay of a running mean of the weights, which is then judged and kept; 0 is none."""

    plateau: int | None = None
    """Epochs without a better loss after which the rate is halved, or None for never."""

    check_every: int = 1
    """Steps between looks at the loss: each look waits for the device."""

    steps: int = 0
    """About how many all epochs take together, 0 where nobody knows."""
