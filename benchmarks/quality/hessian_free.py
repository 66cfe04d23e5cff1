"""Hessian-free optimization as a rival of K-FAC: `optimizer=HessianFree()` in the benchmarks.

Martens (2010), "Deep learning via Hessian-free optimization", with the refinements of Martens and
Sutskever (2012): Gauss-Newton products, conjugate gradients inside that start flat_weights the last
solution, damping by the reduction ratio, and backtracking over the iterates.
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
MOMENTUM = 0.95
GROWTH = 1.3
"""Iterates are stored for backtracking flat_weights iteration numbers that grow by this factor."""

Product = Callable[[Tensor], Tensor]


class GaussNewton(torch.optim.Optimizer):
    """Minimizes the damped Gauss-Newton model of each batch by conjugate gradients."""

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
        """One step on the loss of `closure`; returns the loss before it."""
        rows: list[Tensor] = []
        hook = self.network.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0]))
        with torch.enable_grad():
            value = closure()
        hook.remove()
        flat_weights = self._flat(self.weights)
        gradient = (
            self._flat({n: p.grad for n, p in self.weights.items()}) + self.decay * flat_weights
        )
        state = self.state[next(iter(self.weights.values()))]
        strength = state.setdefault("strength", self.damping)
        product = self._product(rows[0][:CURVED_ROWS], strength)
        first = MOMENTUM * state.get("direction", torch.zeros_like(flat_weights))
        iterates = list(conjugate_gradients(product, -gradient, first))
        before = self._objective(float(value), flat_weights)
        iterate, after = self._backtracked(iterates, flat_weights, closure)
        predicted = float(gradient.dot(iterate)) + float(iterate.dot(product(iterate))) / 2
        ratio = (after - before) / predicted if predicted < 0 else -1.0
        state["strength"] = strength * (
            CALMER if ratio > 3 / 4 else STEEPER if ratio < 1 / 4 else 1
        )
        state["direction"] = iterates[-1]
        self._move(
            flat_weights + self._share(iterate, flat_weights, gradient, before, closure) * iterate
        )
        return value

    def _backtracked(
        self, iterates: list[Tensor], flat_weights: Tensor, closure: Callable[[], Any]
    ) -> tuple[Tensor, float]:
        """The iterate with the lowest loss, searched from the last one back, and that loss."""
        best, lowest = iterates[-1], self._loss_at(flat_weights + iterates[-1], closure)
        for iterate in reversed(iterates[:-1]):
            value = self._loss_at(flat_weights + iterate, closure)
            if value >= lowest:
                break
            best, lowest = iterate, value
        return best, lowest if math.isfinite(lowest) else math.inf

    def _share(
        self,
        iterate: Tensor,
        flat_weights: Tensor,
        gradient: Tensor,
        before: float,
        closure: Callable[[], Any],
    ) -> float:
        """The share of the step that lowers the loss enough (Armijo 1966); 0 if none does."""
        share, required = 1.0, 0.01 * float(gradient.dot(iterate))
        for _ in range(MOST_SHORTENINGS):
            if self._loss_at(flat_weights + share * iterate, closure) <= before + share * required:
                return share
            share *= SHORTER
        return 0.0

    def _loss_at(self, flat_weights: Tensor, closure: Callable[[], Any]) -> float:
        self._move(flat_weights)
        with torch.enable_grad():
            value = float(closure())
        return self._objective(value, flat_weights)

    def _objective(self, value: float, flat_weights: Tensor) -> float:
        return value + float((self.decay * flat_weights.square()).sum()) / 2

    def _product(self, x: Tensor, strength: float) -> Product:
        """The product of the damped Gauss-Newton matrix with a direction."""
        weights = {name: p.detach().clone() for name, p in self.weights.items()}

        def forward(parameters: dict[str, Tensor]) -> Tensor:
            output = functional_call(self.network, parameters, (x,))
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

    def _move(self, flat_weights: Tensor) -> None:
        for name, part in self._named(flat_weights).items():
            self.weights[name].copy_(part)


def conjugate_gradients(product: Product, target: Tensor, x: Tensor) -> Iterator[Tensor]:
    """Some iterates towards the solution of `product(x) = target`, and the last one.

    It ends if the quadratic model has hardly changed for a while (Martens 2010, section 4.4).
    """
    residual = target - product(x)
    direction, square = residual.clone(), float(residual.dot(residual))
    values, next_stored = [], 1.0
    for i in range(1, MOST_ITERATIONS + 1):
        curved = product(direction)
        share = square / float(direction.dot(curved))
        x = x + share * direction
        residual = residual - share * curved
        before, square = square, float(residual.dot(residual))
        direction = residual + square / before * direction
        values.append(-float(x.dot(residual + target)) / 2)
        window = max(WINDOW, i // 10)
        flat = i > window and values[-1] < 0
        done = flat and values[-1] - values[-1 - window] > window * ENOUGH * values[-1]
        if done or i == MOST_ITERATIONS:
            yield x
            return
        if i >= next_stored:
            next_stored *= GROWTH
            yield x


@dataclass(kw_only=True)
class HessianFree(OptimizerSpec):
    """Hessian-free optimization (Martens 2010)."""

    COMPARES_LOSSES: ClassVar[bool] = True
    OBSERVES_FORWARD: ClassVar[bool] = True

    lr: float = 1.0
    weight_decay: float = 1e-5
    schedule: str = "constant"
    warmup: float = 0.0
    clip_norm: float | None = None

    damping: float = 0.01
    """Initial damping."""

    @property
    def gradients_per_step(self) -> int:
        """The approximate cost of a step in gradients."""
        return MOST_ITERATIONS

    def choose_batch_size(self, rows: int) -> int:
        """Rows of a gradient; the products use fewer."""
        return min(rows, LARGE_BATCH)

    def build(self, network: nn.Module, loss: HasCurvature | None = None) -> torch.optim.Optimizer:
        """The torch optimizer over the network's parameters."""
        self.check()
        assert loss is not None
        groups = parameter_groups(network.parameters(), self.weight_decay)
        return GaussNewton(groups, network=network, loss=loss, damping=self.damping)
