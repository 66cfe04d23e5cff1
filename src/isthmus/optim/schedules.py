"""Learning rate schedules: functions from progress in [0, 1) to a share of the rate."""

import math
from collections.abc import Callable

RISE, LOW = 0.3, 0.04


def cosine(progress: float) -> float:
    """From 1 to 0 along half a cosine (Loshchilov and Hutter 2017)."""
    return (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def linear(progress: float) -> float:
    """From 1 to 0 in a straight line."""
    return 1 - min(progress, 1.0)


def one_cycle(progress: float) -> float:
    """From 1/25 up to 1 in the first three tenths, then down to 0 (Smith and Topin 2018)."""
    if progress < RISE:
        return LOW + (1 - LOW) * (1 - cosine(progress / RISE))
    return cosine((progress - RISE) / (1 - RISE))


def plateau(progress: float) -> float:
    """Always 1; the trainer halves the rate after some epochs without a lower loss."""
    del progress
    return 1.0


def constant(progress: float) -> float:
    """Always 1."""
    del progress
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
    "one_cycle": one_cycle,
    "plateau": plateau,
}
"""Schedules by name; "plateau" also halves the rate when the loss stops falling."""
