"""A line search for the strong Wolfe conditions, by bracketing and cubic interpolation."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from isthmus.errors import require
from isthmus.optim.base import OptimizerSpec

GROWTH = 4.0
"""How much longer the next trial step is at most while nothing brackets a minimum."""

LARGE_BATCH = 1000

NEAREST = 0.1
"""A trial keeps this share of an interval's length from its ends."""


class Point(NamedTuple):
    """The function and its slope at one step along the line."""

    step: float
    value: float
    slope: float
    gradient: Tensor
    """(n,): the whole gradient there."""


@dataclass
class StrongWolfe:
    """What a step must bring: f falls enough (c1) and the slope flattens enough (c2).

    f(a) <= f(0) + c1 a f'(0) and |f'(a)| <= c2 |f'(0)|, with 0 < c1 < c2 < 1 (Nocedal and Wright
    2006, algorithms 3.5 and 3.6).
    """

    c1: float = 1e-4
    c2: float = 0.1
    most: int = 20
    """Evaluations at most."""

    def search(self, at: Callable[[float], Point], start: Point, first: float) -> Point:
        """The first step found that meets both conditions, from the trial step `first` on.

        Where `most` evaluations find none, the best that falls enough; `start` where none does.
        """
        search = _Search(self, at, start)
        low, high = search.bracket(first)
        if high is not None:
            low = search.zoom(low, high)
        return low if search.good(low) else search.best


class _Search:
    """One search: counts its evaluations and remembers the best point that falls enough."""

    def __init__(self, rule: StrongWolfe, at: Callable[[float], Point], start: Point) -> None:
        self.rule, self.at, self.start, self.best, self.left = rule, at, start, start, rule.most

    def bracket(self, step: float) -> tuple[Point, Point | None]:
        """A point that is good, with None, or the two ends of an interval that holds one."""
        before = self.start
        while self.left:
            point = self.look(step)
            if not self.falls(point) or (before is not self.start and point.value >= before.value):
                return before, point
            if self.good(point):
                return point, None
            if point.slope >= 0:
                return point, before
            step = _beyond(before, point)
            before = point
        return self.best, None

    def zoom(self, low: Point, high: Point) -> Point:
        """A good point between `low`, the better end, and `high`; else the best end."""
        while self.left:
            point = self.look(_inside(low, high))
            if not self.falls(point) or point.value >= low.value:
                high = point
            elif self.good(point):
                return point
            else:
                if point.slope * (high.step - low.step) >= 0:
                    high = low
                low = point
        return low

    def look(self, step: float) -> Point:
        """The point at `step`."""
        self.left -= 1
        point = self.at(step)
        if self.falls(point) and point.value < self.best.value:
            self.best = point
        return point

    def falls(self, point: Point) -> bool:
        """Whether the function falls enough; what is not finite never does."""
        allowed = self.start.value + self.rule.c1 * point.step * self.start.slope
        return math.isfinite(point.slope) and point.value <= allowed

    def good(self, point: Point) -> bool:
        """Whether the point meets both conditions."""
        flat = abs(point.slope) <= self.rule.c2 * abs(self.start.slope)
        return point.step > 0 and self.falls(point) and flat


def _beyond(before: Point, point: Point) -> float:
    """A longer step: to the cubic's minimum where that lies ahead, within bounds."""
    longest = point.step * GROWTH
    shortest = point.step + NEAREST * (point.step - before.step)
    wanted = _minimum(before, point, longest)
    return min(wanted if wanted > shortest else longest, longest)


def _inside(low: Point, high: Point) -> float:
    """A step between two points: the cubic's minimum, kept from the ends; else the middle."""
    left, right = sorted((low.step, high.step))
    room = NEAREST * (right - left)
    middle = (left + right) / 2
    wanted = _minimum(low, high, middle)
    return min(max(wanted, left + room), right - room)


def _minimum(a: Point, b: Point, otherwise: float) -> float:
    """Where the cubic through two points and their slopes is lowest (Nocedal and Wright 3.59)."""
    if not (math.isfinite(b.value) and math.isfinite(b.slope)) or a.step == b.step:
        return otherwise
    first = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step)
    inside = first**2 - a.slope * b.slope
    if inside < 0:
        return otherwise
    second = math.copysign(math.sqrt(inside), b.step - a.step)
    below = b.slope - a.slope + 2 * second
    if below == 0:
        return otherwise
    step = b.step - (b.step - a.step) * (b.slope + second - first) / below
    return step if math.isfinite(step) and step > 0 else otherwise


@dataclass(kw_only=True)
class LineSearched(OptimizerSpec):
    """An optimizer that finds its own steps and needs the gradient of the very loss it lowers."""

    COMPARES: ClassVar[bool] = True

    lr: float = 1.0
    """Scales the first trial step, > 0; the line search finds all others itself."""

    schedule: str = "constant"
    """The rate does not move: the line search finds the steps."""

    warmup: float = 0.0
    """None is needed."""

    clip_norm: float | None = None
    """A clipped gradient would be that of no function, so there is no clipping."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        super().check()
        name = type(self).__name__
        require(
            self.clip_norm is None,
            f"{name}: clip_norm={self.clip_norm} would give the line search a gradient that is "
            "none of its function; use None",
        )
        require(
            self.weight_decay == 0,
            f"{name}: weight_decay={self.weight_decay} is not part of the loss that the line "
            "search sees; use 0",
        )

    def choose_batch_size(self, rows: int) -> int:
        """All rows up to 1000, else 1000: a search over few rows finds what is good for them."""
        return min(rows, LARGE_BATCH)
