"""Nonlinear conjugate gradients, full-batch or on large mini-batches."""

# Shape letter: n parameters.

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from isthmus.errors import require
from isthmus.optim.base import Closure, ParamGroup, PicklableOptimizer
from isthmus.optim.line_search import LineSearchOptimizer, Point, StrongWolfe

ORTHOGONAL = 0.2
"""The direction is restarted if successive gradients are less orthogonal (Powell 1977)."""

LEAST_DESCENT = 1e-8
"""The least descent along a direction, as a share of |gradient| |direction|."""


class DirectionHistory(NamedTuple):
    """What the update of the direction depends on, (n,) each."""

    gradient: Tensor
    previous: Tensor
    """The gradient before the last line search."""

    direction: Tensor
    """The direction of the last line search."""

    @property
    def change(self) -> Tensor:
        """The change of the gradient over the last line search."""
        return self.gradient - self.previous


def fletcher_reeves(history: DirectionHistory) -> float:
    """Beta = |g|^2 / |g0|^2 (Fletcher and Reeves 1964)."""
    previous = history.previous
    return float(history.gradient.dot(history.gradient) / previous.dot(previous))


def polak_ribiere(history: DirectionHistory) -> float:
    """Beta = max(0, g.y / |g0|^2) (Polak and Ribiere 1969; Powell 1984 for the maximum)."""
    previous = history.previous
    return max(0.0, float(history.gradient.dot(history.change) / previous.dot(previous)))


def hestenes_stiefel(history: DirectionHistory) -> float:
    """Beta = g.y / d.y (Hestenes and Stiefel 1952)."""
    change = history.change
    return float(history.gradient.dot(change) / history.direction.dot(change))


def hager_zhang(history: DirectionHistory) -> float:
    """Beta = (y - 2 d |y|^2 / d.y).g / d.y, bounded below (Hager and Zhang 2005)."""
    y, d = history.change, history.direction
    along = d.dot(y)
    beta = float((y - 2 * d * (y.dot(y) / along)).dot(history.gradient) / along)
    least = -1 / (float(d.norm()) * min(0.01, float(history.previous.norm())))
    return max(beta, least)


UPDATES: dict[str, Callable[[DirectionHistory], float]] = {
    "fletcher_reeves": fletcher_reeves,
    "polak_ribiere": polak_ribiere,
    "hestenes_stiefel": hestenes_stiefel,
    "hager_zhang": hager_zhang,
}
"""How the last direction enters the next one: formulas for beta, by name."""


class _SearchState(TypedDict, total=False):
    """The last line search, kept in the optimizer's state."""

    gradient: Tensor
    direction: Tensor
    derivative: float
    step: float
    value: float


class NonlinearConjugateGradient(PicklableOptimizer):
    """Line searches along conjugate directions; `step(closure)` makes a few on one batch.

    The direction is carried over if the loss at the start of a step equals that at the end of the
    last one. On a full batch the searches therefore form one long descent, while each new
    mini-batch begins with its own gradient (Hinton and Salakhutdinov 2006).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[ParamGroup],
        *,
        lr: float = 1.0,
        update: str = "polak_ribiere",
        searches: int = 3,
        wolfe: StrongWolfe | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr})
        self.update, self.searches, self.wolfe = UPDATES[update], searches, wolfe or StrongWolfe()
        self.parameters: list[nn.Parameter] = [
            p for group in self.param_groups for p in group["params"]
        ]

    @torch.no_grad()
    def step(self, closure: Closure) -> Tensor:  # type: ignore[override]
        """Make `searches` line searches on the batch of `closure`; return the loss before them."""
        origin = parameters_to_vector(self.parameters)
        value, gradient = self.evaluate(closure)
        first = value
        last = self._last_search(value)
        for _ in range(self.searches):
            if not gradient.any():
                break
            direction = self._direction(gradient, last)
            start = Point(0.0, value, float(gradient.dot(direction)), gradient)
            line = self._line(closure, origin, direction)
            point = self.wolfe.search(line, start, self._first_step(start, last))
            origin = origin + point.step * direction
            last = self._store(point, start, direction)
            value, gradient = point.value, point.gradient
        vector_to_parameters(origin, self.parameters)
        return torch.tensor(first)

    def evaluate(self, closure: Closure) -> tuple[float, Tensor]:
        """The loss and its gradient (n,) at the current parameters."""
        with torch.enable_grad():
            value = float(torch.as_tensor(closure()).detach())
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        return value, torch.cat([grad.reshape(-1) for grad in grads])

    def _line(
        self, closure: Closure, origin: Tensor, direction: Tensor
    ) -> Callable[[float], Point]:
        """The loss along a line through `origin`, as a function of the step."""

        def evaluate(step: float) -> Point:
            vector_to_parameters(origin + step * direction, self.parameters)
            value, gradient = self.evaluate(closure)
            return Point(step, value, float(gradient.dot(direction)), gradient)

        return evaluate

    def _direction(self, gradient: Tensor, last: _SearchState) -> Tensor:
        """The conjugate direction, or steepest descent after a restart."""
        steepest = -gradient
        if "direction" not in last or last["step"] == 0.0:
            return steepest
        history = DirectionHistory(gradient, last["gradient"], last["direction"])
        square = float(gradient.dot(gradient))
        if abs(float(gradient.dot(history.previous))) >= ORTHOGONAL * square:
            return steepest
        direction = steepest + self.update(history) * history.direction
        derivative = float(gradient.dot(direction))
        downhill = derivative < -LEAST_DESCENT * square**0.5 * float(direction.norm())
        return direction if downhill else steepest

    def _first_step(self, start: Point, last: _SearchState) -> float:
        """The trial step that would lower the loss as much as the last search did."""
        if last.get("step"):
            step = last["step"]
            return float(min(step * last["derivative"] / start.derivative, 10 * step))
        rate: float = self.param_groups[0]["lr"]
        return rate * min(1.0, 1.0 / float(start.gradient.abs().sum()))

    def _store(self, point: Point, start: Point, direction: Tensor) -> _SearchState:
        last = _SearchState(
            gradient=start.gradient,
            direction=direction,
            derivative=start.derivative,
            step=point.step,
            value=point.value,
        )
        self.state[self.parameters[0]] = last
        return last

    def _last_search(self, value: float) -> _SearchState:
        last: _SearchState = self.state.get(self.parameters[0], {})
        if last.get("value") == value or "step" not in last:
            return last
        # Another batch has its own curvature, but the length of the step remains informative.
        return _SearchState(derivative=last["derivative"], step=last["step"])


@dataclass(kw_only=True)
class ConjugateGradient(LineSearchOptimizer):
    """Nonlinear conjugate gradients with a strong Wolfe line search and automatic restarts.

    Source: Hinton and Salakhutdinov (2006) trained deep autoencoders with it; the formulas are
    those of Nocedal and Wright (2006), chapter 5.

    Example:
        >>> from isthmus.optim import ConjugateGradient
        >>> ConjugateGradient(searches=2).gradients_per_step
        5
    """

    update: str = "polak_ribiere"
    """The formula that joins directions: one of `optim.UPDATES`."""

    searches: int = 3
    """Line searches per step, >= 1; Hinton and Salakhutdinov (2006) made 3 per batch."""

    evaluations: int = 20
    """Evaluations per line search at most, >= 2."""

    curvature: float = 0.1
    """How far the derivative along the line must fall (c2 of the Wolfe conditions), in
    (1e-4, 1)."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        super().check()
        require(
            self.update in UPDATES,
            f"ConjugateGradient: update={self.update!r} is not known; use one of "
            f"{', '.join(UPDATES)}",
        )
        require(
            self.searches >= 1, f"ConjugateGradient: searches={self.searches} must be at least 1"
        )
        require(
            self.evaluations >= 2,
            f"ConjugateGradient: evaluations={self.evaluations} must be at least 2",
        )
        require(
            1e-4 < self.curvature < 1,
            f"ConjugateGradient: curvature={self.curvature} must lie between 0.0001 and 1",
        )

    @property
    def gradients_per_step(self) -> int:
        """About how many gradients a step computes: two or three per line search."""
        return 1 + 2 * self.searches

    def make(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        """A NonlinearConjugateGradient over all parameters."""
        return NonlinearConjugateGradient(
            groups,
            lr=self.lr,
            update=self.update,
            searches=self.searches,
            wolfe=StrongWolfe(c2=self.curvature, max_evaluations=self.evaluations),
        )
