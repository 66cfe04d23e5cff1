"""How the learning rate moves: functions from progress in [0, 1) to a share of the rate."""

import math
from collections.abc import Callable


def cosine(progress: float) -> float:
    """From 1 to 0 along half a cosine (Loshchilov and Hutter 2017)."""
    return (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def linear(progress: float) -> float:
    """From 1 to 0 in a straight line."""
    return 1 - min(progress, 1.0)


def constant(progress: float) -> float:
    """Always 1."""
    del progress
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
}
