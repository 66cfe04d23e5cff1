"""A line search for the strong Wolfe conditions, and the optimizers that use it."""

# Shape letter: n parameters.

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from isthmus.errors import require
from isthmus.optim.base import OptimizerSpec

MAX_GROWTH = 4.0
"""The largest ratio of two trial steps in a row while no minimum is bracketed."""

LARGE_BATCH = 1000

MARGIN = 0.1
"""Trial steps keep this share of the interval's length from its ends."""


class Point(NamedTuple):
    """The function at one step along the line."""

    step: float
    value: float
    derivative: float
    """The derivative along the line."""

    gradient: Tensor
    """(n,): the full gradient."""


@dataclass
class StrongWolfe:
    """The strong Wolfe conditions: f decreases enough (c1), and so does its derivative (c2).

    f(a) <= f(0) + c1 a f'(0) and |f'(a)| <= c2 |f'(0)|, with 0 < c1 < c2 < 1 (Nocedal and Wright
    2006, algorithms 3.5 and 3.6).
    """

    c1: float = 1e-4
    c2: float = 0.1
    max_evaluations: int = 20

    def search(self, line: Callable[[float], Point], start: Point, first: float) -> Point:
        """The first point that meets both conditions, from the trial step `first` on.

        After `max_evaluations` it is the best point that decreases enough, or else `start`.
        """
        search = _Search(self, line, start)
        low, high = search.bracket(first)
        if high is not None:
            low = search.zoom(low, high)
        return low if search.is_acceptable(low) else search.best


class _Search:
    """One search: counts its evaluations and keeps the best point that decreases enough."""

    def __init__(self, rule: StrongWolfe, line: Callable[[float], Point], start: Point) -> None:
        self.rule, self.line, self.start, self.best = rule, line, start, start
        self.left = rule.max_evaluations

    def bracket(self, step: float) -> tuple[Point, Point | None]:
        """An acceptable point and None, or the two ends of an interval that holds one."""
        before = self.start
        while self.left:
            point = self.evaluate(step)
            rises = before is not self.start and point.value >= before.value
            if not self.decreases(point) or rises:
                return before, point
            if self.is_acceptable(point):
                return point, None
            if point.derivative >= 0:
                return point, before
            step = _extrapolate(before, point)
            before = point
        return self.best, None

    def zoom(self, low: Point, high: Point) -> Point:
        """An acceptable point between `low`, the better end, and `high`; else the best end."""
        while self.left:
            point = self.evaluate(_interpolate(low, high))
            if not self.decreases(point) or point.value >= low.value:
                high = point
            elif self.is_acceptable(point):
                return point
            else:
                if point.derivative * (high.step - low.step) >= 0:
                    high = low
                low = point
        return low

    def evaluate(self, step: float) -> Point:
        """The point at `step`."""
        self.left -= 1
        point = self.line(step)
        if self.decreases(point) and point.value < self.best.value:
            self.best = point
        return point

    def decreases(self, point: Point) -> bool:
        """Whether the function decreases enough; a value that is not finite does not."""
        allowed = self.start.value + self.rule.c1 * point.step * self.start.derivative
        return math.isfinite(point.derivative) and point.value <= allowed

    def is_acceptable(self, point: Point) -> bool:
        """Whether the point meets both conditions."""
        flat = abs(point.derivative) <= self.rule.c2 * abs(self.start.derivative)
        return point.step > 0 and self.decreases(point) and flat


def _extrapolate(before: Point, point: Point) -> float:
    """A longer step: the cubic's minimum if it lies ahead, within bounds."""
    longest = point.step * MAX_GROWTH
    shortest = point.step + MARGIN * (point.step - before.step)
    wanted = _cubic_minimum(before, point, longest)
    return min(wanted if wanted > shortest else longest, longest)


def _interpolate(low: Point, high: Point) -> float:
    """A step between two points: the cubic's minimum, kept from the ends; else the middle."""
    left, right = sorted((low.step, high.step))
    margin = MARGIN * (right - left)
    middle = (left + right) / 2
    wanted = _cubic_minimum(low, high, middle)
    return min(max(wanted, left + margin), right - margin)


def _cubic_minimum(a: Point, b: Point, default: float) -> float:
    """The minimum of the cubic through two points and their derivatives.

    Nocedal and Wright (2006), equation 3.59. `default` if there is no such minimum.
    """
    if not (math.isfinite(b.value) and math.isfinite(b.derivative)) or a.step == b.step:
        return default
    first = a.derivative + b.derivative - 3 * (a.value - b.value) / (a.step - b.step)
    inside = first**2 - a.derivative * b.derivative
    if inside < 0:
        return default
    second = math.copysign(math.sqrt(inside), b.step - a.step)
    denominator = b.derivative - a.derivative + 2 * second
    if denominator == 0:
        return default
    step = b.step - (b.step - a.step) * (b.derivative + second - first) / denominator
    return step if math.isfinite(step) and step > 0 else default


@dataclass(kw_only=True)
class LineSearchOptimizer(OptimizerSpec):
    """Base of optimizers that choose their own steps by comparing losses."""

    COMPARES_LOSSES: ClassVar[bool] = True

    lr: float = 1.0
    """Scales the first trial step, > 0; the line search finds all others itself."""

    schedule: str = "constant"
    """The rate does not move: the line search finds the steps."""

    warmup: float = 0.0
    """None is needed."""

    clip_norm: float | None = None
    """A clipped gradient is not the gradient of the loss, so there is no clipping."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        super().check()
        name = type(self).__name__
        require(
            self.clip_norm is None,
            f"{name}: clip_norm={self.clip_norm} would give the line search a gradient that is "
            "not that of its loss; use None",
        )
        require(
            self.weight_decay == 0,
            f"{name}: weight_decay={self.weight_decay} is not part of the loss that the line "
            "search compares; use 0",
        )

    def choose_batch_size(self, rows: int) -> int:
        """All rows up to 1000, else 1000: on few rows a line search fits their noise."""
        return min(rows, LARGE_BATCH)
