"""Nonlinear conjugate gradients, full-batch or on large mini-batches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from isthmus.errors import require
from isthmus.optim.base import Whole
from isthmus.optim.line_search import LineSearched, Point, StrongWolfe

ORTHOGONAL = 0.2
"""Successive gradients this far from orthogonal mean a restart (Powell 1977)."""

STEEP = 1e-8
"""A direction whose slope is a smaller share of |gradient| |direction| leads nowhere."""


class Turn(NamedTuple):
    """What an update of the direction may look at."""

    gradient: Tensor
    before: Tensor
    """The gradient one line search ago."""

    direction: Tensor
    """The direction of that search."""

    @property
    def change(self) -> Tensor:
        """How the gradient changed over the search."""
        return self.gradient - self.before


def fletcher_reeves(turn: Turn) -> float:
    """Beta = |g|^2 / |g0|^2 (Fletcher and Reeves 1964)."""
    return float(turn.gradient.dot(turn.gradient) / turn.before.dot(turn.before))


def polak_ribiere(turn: Turn) -> float:
    """Beta = max(0, g.y / |g0|^2) (Polak and Ribiere 1969; Powell 1984 for the maximum)."""
    return max(0.0, float(turn.gradient.dot(turn.change) / turn.before.dot(turn.before)))


def hestenes_stiefel(turn: Turn) -> float:
    """Beta = g.y / d.y (Hestenes and Stiefel 1952)."""
    return float(turn.gradient.dot(turn.change) / turn.direction.dot(turn.change))


def hager_zhang(turn: Turn) -> float:
    """Beta = (y - 2 d |y|^2 / d.y).g / d.y, bounded below (Hager and Zhang 2005)."""
    y, d = turn.change, turn.direction
    along = d.dot(y)
    beta = float((y - 2 * d * (y.dot(y) / along)).dot(turn.gradient) / along)
    least = -1 / (float(d.norm()) * min(0.01, float(turn.before.norm())))
    return max(beta, least)


UPDATES: dict[str, Callable[[Turn], float]] = {
    "fletcher_reeves": fletcher_reeves,
    "polak_ribiere": polak_ribiere,
    "hestenes_stiefel": hestenes_stiefel,
    "hager_zhang": hager_zhang,
}


class NonlinearConjugateGradient(Whole):
    """Line searches along conjugate directions; `step(closure)` makes a few on one batch.

    The direction is carried from step to step as long as the loss at the start of a step is what
    it was at the end of the last, so on a full batch the searches form one long descent, while
    each new mini-batch begins with its own gradient (Hinton and Salakhutdinov 2006).
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1.0,
        update: str = "polak_ribiere",
        searches: int = 3,
        wolfe: StrongWolfe | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr})
        self.update, self.searches, self.wolfe = UPDATES[update], searches, wolfe or StrongWolfe()
        self.parameters = [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Tensor:  # type: ignore[override]
        """`searches` line searches on what `closure` computes; the loss before them."""
        origin = parameters_to_vector(self.parameters)
        value, gradient = self._evaluate(closure)
        first = value
        memory = self._remembered(value)
        for _ in range(self.searches):
            if not gradient.any():
                break
            direction = self._direction(gradient, memory)
            start = Point(0.0, value, float(gradient.dot(direction)), gradient)
            trial = self._trial(start, memory)
            found = self.wolfe.search(_along(self, closure, origin, direction), start, trial)
            origin = origin + found.step * direction
            memory = self._remember(found, start, direction)
            value, gradient = found.value, found.gradient
        vector_to_parameters(origin, self.parameters)
        return torch.tensor(first)

    def _direction(self, gradient: Tensor, memory: dict[str, Any]) -> Tensor:
        """The conjugate direction, or steepest descent where a restart is due."""
        steepest = -gradient
        if "direction" not in memory or memory["step"] == 0.0:
            return steepest
        turn = Turn(gradient, memory["gradient"], memory["direction"])
        square = float(gradient.dot(gradient))
        if abs(float(gradient.dot(turn.before))) >= ORTHOGONAL * square:
            return steepest
        direction = steepest + self.update(turn) * turn.direction
        slope = float(gradient.dot(direction))
        downhill = slope < -STEEP * square**0.5 * float(direction.norm())
        return direction if downhill else steepest

    def _trial(self, start: Point, memory: dict[str, Any]) -> float:
        """The step to try first: what would bring as much as the last one did."""
        if memory.get("step"):
            return float(min(memory["step"] * memory["slope"] / start.slope, 10 * memory["step"]))
        rate: float = self.param_groups[0]["lr"]
        return rate * min(1.0, 1.0 / float(start.gradient.abs().sum()))

    def _remember(self, found: Point, start: Point, direction: Tensor) -> dict[str, Any]:
        memory = {
            "gradient": start.gradient,
            "direction": direction,
            "slope": start.slope,
            "step": found.step,
            "value": found.value,
        }
        self.state[self.parameters[0]] = memory
        return memory

    def _remembered(self, value: float) -> dict[str, Any]:
        memory: dict[str, Any] = self.state.get(self.parameters[0], {})
        if memory.get("value") == value:
            return memory
        # Another batch: its curvature is its own, but the length of a step tells something.
        return {name: memory[name] for name in ("slope", "step") if name in memory}

    def _evaluate(self, closure: Callable[[], Any]) -> tuple[float, Tensor]:
        with torch.enable_grad():
            value = float(torch.as_tensor(closure()).detach())
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        return value, torch.cat([grad.reshape(-1) for grad in grads])


def _along(
    optimizer: NonlinearConjugateGradient,
    closure: Callable[[], Any],
    origin: Tensor,
    direction: Tensor,
) -> Callable[[float], Point]:
    """The loss along the line from `origin`, as a function of the step."""

    def at(step: float) -> Point:
        vector_to_parameters(origin + step * direction, optimizer.parameters)
        value, gradient = optimizer._evaluate(closure)
        return Point(step, value, float(gradient.dot(direction)), gradient)

    return at


@dataclass(kw_only=True)
class ConjugateGradient(LineSearched):
    """Nonlinear conjugate gradients with a strong Wolfe line search and automatic restarts."""

    update: str = "polak_ribiere"
    """How directions are joined: one of `conjugate.UPDATES`."""

    searches: int = 3
    """Line searches a step, >= 1, as many as Hinton and Salakhutdinov (2006) made a batch."""

    evaluations: int = 20
    """Evaluations a line search at most, >= 2."""

    curvature: float = 0.1
    """How flat the slope must become (c2 of Wolfe's conditions), in (1e-4, 1)."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
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
    def evaluations_a_step(self) -> int:
        """Gradients a step needs, about: two or three a line search."""
        return 1 + 2 * self.searches

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """A NonlinearConjugateGradient over all parameters."""
        return NonlinearConjugateGradient(
            groups,
            lr=self.lr,
            update=self.update,
            searches=self.searches,
            wolfe=StrongWolfe(c2=self.curvature, most=self.evaluations),
        )
