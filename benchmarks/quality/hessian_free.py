"""Hessian-free optimization as a rival of K-FAC: `optimizer=HessianFree()` in the benchmarks.

Martens (2010), "Deep learning via Hessian-free optimization", with the refinements of Martens and
Sutskever (2012): Gauss-Newton products, conjugate gradients inside that begin where the last ones
ended, damping by the ratio of what came true, steps drawn back along the conjugate gradients' way.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp

from isthmus.optim import OptimizerSpec
from isthmus.optim.base import parameter_groups
from isthmus.types import HasCurvature

LARGE_BATCH, CURVED_ROWS = 6000, 2000
MOST_ITERATIONS, WINDOW, ENOUGH = 60, 10, 5e-4
STEEPER, CALMER = 3 / 2, 2 / 3
SHORTER, MOST_SHORTENINGS = 0.8, 30
KEPT_OF_DIRECTION = 0.95
GROWTH = 1.3
"""Iterates of the conjugate gradients are kept at numbers that grow so, to draw back to."""

Product = Callable[[Tensor], Tensor]


class GaussNewton(torch.optim.Optimizer):
    """Minimises the damped Gauss-Newton model of each batch by conjugate gradients."""

    def __init__(
        self, params: Iterable[Any], *, network: nn.Module, loss: HasCurvature, damping: float
    ) -> None:
        super().__init__(params, {"lr": 1.0, "weight_decay": 0.0})
        self.network, self.loss, self.damping = network, loss, damping
        self.weights = {n: p for n, p in network.named_parameters() if p.requires_grad}
        decay = max(group["weight_decay"] for group in self.param_groups)
        self.decay = self._flat(
            {n: torch.full_like(p, decay * (p.ndim > 1)) for n, p in self.weights.items()}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """One step on what `closure` computes; what it returned before it."""
        rows: list[Tensor] = []
        hook = self.network.register_forward_pre_hook(lambda _, given: rows.append(given[0]))
        with torch.enable_grad():
            value = closure()
        hook.remove()
        at = self._flat(self.weights)
        slope = self._flat({n: p.grad for n, p in self.weights.items()}) + self.decay * at
        state = self.state[next(iter(self.weights.values()))]
        strength = state.setdefault("strength", self.damping)
        product = self._product(rows[0][:CURVED_ROWS], strength)
        first = KEPT_OF_DIRECTION * state.get("direction", torch.zeros_like(at))
        ways = list(conjugate_gradients(product, -slope, first))
        before = self._objective(float(value), at)
        way, after = self._drawn_back(ways, at, closure)
        foretold = float(slope.dot(way)) + float(way.dot(product(way))) / 2
        ratio = (after - before) / foretold if foretold < 0 else -1.0
        state["strength"] = strength * (
            CALMER if ratio > 3 / 4 else STEEPER if ratio < 1 / 4 else 1
        )
        state["direction"] = ways[-1]
        self._move(at + self._share(way, at, slope, before, closure) * way)
        return value

    def _drawn_back(
        self, ways: list[Tensor], at: Tensor, closure: Callable[[], Any]
    ) -> tuple[Tensor, float]:
        """The iterate, from the last back, after which the loss no longer falls."""
        best, lowest = ways[-1], self._look(at + ways[-1], closure)
        for way in reversed(ways[:-1]):
            value = self._look(at + way, closure)
            if value >= lowest:
                break
            best, lowest = way, value
        return best, lowest if math.isfinite(lowest) else math.inf

    def _share(
        self, way: Tensor, at: Tensor, slope: Tensor, before: float, closure: Callable[[], Any]
    ) -> float:
        """How much of the step lowers the loss by enough (Armijo 1966); 0 where none does."""
        share, wanted = 1.0, 0.01 * float(slope.dot(way))
        for _ in range(MOST_SHORTENINGS):
            if self._look(at + share * way, closure) <= before + share * wanted:
                return share
            share *= SHORTER
        return 0.0

    def _look(self, at: Tensor, closure: Callable[[], Any]) -> float:
        self._move(at)
        with torch.enable_grad():
            value = float(closure())
        return self._objective(value, at)

    def _objective(self, value: float, at: Tensor) -> float:
        return value + float((self.decay * at.square()).sum()) / 2

    def _product(self, x: Tensor, strength: float) -> Product:
        """Gauss-Newton times a direction, damped."""
        weights = {name: p.detach().clone() for name, p in self.weights.items()}

        def forward(given: dict[str, Tensor]) -> Tensor:
            output = functional_call(self.network, given, (x,))
            return getattr(output, "reconstruction", output)

        raw, pulled = vjp(forward, weights)
        curvature = self.loss.curvature(raw) / raw.numel()

        def product(direction: Tensor) -> Tensor:
            _, pushed = jvp(forward, (weights,), (self._named(direction),))
            (back,) = pulled(curvature * pushed)
            return self._flat(back) + (self.decay + strength) * direction

        return product

    def _flat(self, tensors: dict[str, Any]) -> Tensor:
        parts = [tensors[name] for name in self.weights]
        return torch.cat([part.detach().reshape(-1) for part in parts])

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        parts = flat.split([p.numel() for p in self.weights.values()])
        pairs = zip(self.weights.items(), parts, strict=True)
        return {name: part.view_as(p) for (name, p), part in pairs}

    def _move(self, at: Tensor) -> None:
        for name, part in self._named(at).items():
            self.weights[name].copy_(part)


def conjugate_gradients(product: Product, wanted: Tensor, x: Tensor) -> Iterator[Tensor]:
    """Iterates towards the solution of `product(x) = wanted`, fewer and fewer, and the last.

    Ends where the quadratic model's value has hardly moved for a while (Martens 2010, section 4.4).
    """
    left = wanted - product(x)
    direction, square = left.clone(), float(left.dot(left))
    values, next_kept = [], 1.0
    for i in range(1, MOST_ITERATIONS + 1):
        curved = product(direction)
        share = square / float(direction.dot(curved))
        x = x + share * direction
        left = left - share * curved
        before, square = square, float(left.dot(left))
        direction = left + square / before * direction
        values.append(-float(x.dot(left + wanted)) / 2)
        window = max(WINDOW, i // 10)
        flat = i > window and values[-1] < 0
        done = flat and values[-1] - values[-1 - window] > window * ENOUGH * values[-1]
        if done or i == MOST_ITERATIONS:
            yield x
            return
        if i >= next_kept:
            next_kept *= GROWTH
            yield x


@dataclass(kw_only=True)
class HessianFree(OptimizerSpec):
    """Hessian-free optimization (Martens 2010)."""

    COMPARES_LOSSES: ClassVar[bool] = True

    lr: float = 1.0
    weight_decay: float = 1e-5
    schedule: str = "constant"
    warmup: float = 0.0
    clip_norm: float | None = None

    damping: float = 0.01
    """Damping at the beginning."""

    @property
    def gradients_per_step(self) -> int:
        """Gradients a step needs, about."""
        return MOST_ITERATIONS

    def choose_batch_size(self, rows: int) -> int:
        """Rows of a gradient; fewer do for the products."""
        return min(rows, LARGE_BATCH)

    def build(self, network: nn.Module, loss: HasCurvature | None = None) -> torch.optim.Optimizer:
        """The torch optimizer over the network's parameters."""
        self.check()
        assert loss is not None
        groups = parameter_groups(network.parameters(), self.weight_decay)
        return GaussNewton(groups, network=network, loss=loss, damping=self.damping)
