"""K-FAC: natural gradient steps with the curvature of each linear layer as a Kronecker product."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.errors import RequestError, require
from isthmus.optim.adaptive import AdamW
from isthmus.optim.base import (
    Closure,
    OptimizerSpec,
    ParamGroup,
    PicklableOptimizer,
    parameter_groups,
)
from isthmus.optim.curvature import Curvature, ForwardObserver, LinearParameters
from isthmus.types import Array, HasCurvature

# The paper is Martens and Grosse (2015); sections and equations are those of arXiv:1503.05671.

DAMPING_INTERVAL = 5
"""Steps between two adaptations of the damping to the quality of the quadratic model (T1)."""

LARGE_BATCH = 2000
"""Rows per batch: the minimum of the quadratic model over few rows fits their noise."""

DAMPING_DECAY = 19 / 20
"""The factor by which damping shrinks per step with an accurate model (omega, section 6.5)."""

FIRST_STEPS = 10
"""The first steps, each of which updates the damping and the inverses."""

DAMPING_GROWTH = 10.0
"""The factor by which damping grows when the loss rises."""

ROUNDING = 16
"""Changes of the loss below so many units of its last place are rounding."""

LEAST_DAMPING = 1e-8
"""Damping falls no lower than this share of the mean curvature, for single precision's sake."""

LayerState = dict[str, Tensor]
"""The running factors "inputs" and "outputs", their inverses "right" and "left", the "update"."""


@dataclass
class Damping:
    """The numbers that are kept from step to step, apart from each layer's tensors."""

    steps: int = 0
    strength: float = 0.0
    """Added to the exact curvature of the quadratic model (lambda)."""

    factored: float = 0.0
    """Added to the factors of the inverse, shared between the two (gamma)."""


@dataclass
class QuadraticStep:
    """The minimum of the quadratic model over a new direction and the last update."""

    updates: list[Tensor] = field(default_factory=list)
    gain: float = 0.0
    """The change of the loss that the model predicts, <= 0."""


class KroneckerFactored(PicklableOptimizer):
    """K-FAC for every linear layer of `network` and AdamW for all other parameters.

    `step(closure)` observes the first call of `closure`, which must run `network` forward once and
    leave gradients. Weights that are used twice in a pass, filters and gates go to AdamW. Its rate
    is `adamw_lr` times the share that `lr` has of its first value. Weight decay is part of the
    objective of linear layers (L2) and decoupled from the gradient elsewhere. Weights of rows are
    in the gradient but not in the curvature.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[ParamGroup],
        *,
        network: nn.Module,
        loss: HasCurvature,
        lr: float = 1.0,
        damping: float = 0.01,
        factor_decay: float = 0.95,
        inverse_interval: int = 20,
        adamw_lr: float = 3e-3,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})
        self.network, self.loss = network, loss
        self.lr, self.initial_damping = lr, damping
        self.factor_decay, self.inverse_interval = factor_decay, inverse_interval
        self.adamw_lr = adamw_lr
        self.trained: list[nn.Parameter] = [p for g in self.param_groups for p in g["params"]]
        self.decay: float = max(group["weight_decay"] for group in self.param_groups)

    @torch.no_grad()
    def step(self, closure: Closure) -> Tensor | float:  # type: ignore[override]
        """Take one step of every parameter; return the loss before it."""
        damping = self._stored_damping()
        observer = ForwardObserver(self.network, self.loss, self.trained, seed=damping.steps)
        with torch.enable_grad(), observer:
            value = closure()
        before = float(torch.as_tensor(value).detach())
        if not np.isfinite(before):
            return value  # the trainer handles losses that are not finite
        gradients = {p: p.grad for p in self.trained if p.grad is not None}
        curvature = observer.curvature
        if curvature is not None and curvature.layers:
            self._natural_step(curvature, damping, before, closure)
        self._adamw_step(gradients, [] if curvature is None else curvature.layers)
        return value

    def _adamw_step(
        self, gradients: Mapping[nn.Parameter, Tensor], layers: Sequence[LinearParameters]
    ) -> None:
        """AdamW for every parameter that belongs to none of the layers."""
        done = {id(p) for layer in layers for p in (layer.weight, layer.bias)}
        groups = [
            {
                "params": [p for p in group["params"] if id(p) not in done and p in gradients],
                "lr": self.adamw_lr * group["lr"] / self.lr,
                "weight_decay": group["weight_decay"],
            }
            for group in self.param_groups
        ]
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        rest = AdamW(lr=self.adamw_lr).make(groups)
        rest.state = self.state
        rest.step()

    def _natural_step(
        self, curvature: Curvature, damping: Damping, before: float, closure: Closure
    ) -> None:
        """The K-FAC step of the observed layers."""
        layers = curvature.layers
        states: list[LayerState] = [self.state[layer.weight] for layer in layers]
        factors = curvature.factors()
        if not all(bool(factor.isfinite().all()) for pair in factors for factor in pair):
            return  # the gradient is finite, but the squares of the rows are not
        damping.steps += 1
        self._average(factors, states, damping)
        grads = [layer.gradient + self.decay * layer.decaying for layer in layers]
        before += self._decay_penalty(layers)
        step = self._choose(curvature, states, damping, grads)
        rate = self.param_groups[0]["lr"]
        for layer, state, update in zip(layers, states, step.updates, strict=True):
            state["update"] = (rate * update).contiguous()
            layer.add(state["update"])
        if damping.steps <= FIRST_STEPS or damping.steps % DAMPING_INTERVAL == 0:
            with torch.enable_grad():
                after = float(torch.as_tensor(closure()).detach()) + self._decay_penalty(layers)
            # A share r of the model's best step gains 2 r - r^2 of what that does.
            predicted = step.gain * (2 * rate - rate**2)
            rounding = ROUNDING * torch.finfo(grads[0].dtype).eps * abs(before)
            if not rounding >= max(-predicted, after - before):
                self._adapt_damping(layers, states, damping, (after - before) / predicted)
        self.state[layers[0].weight]["damping"] = vars(damping)

    def _average(
        self,
        factors: Sequence[tuple[Tensor, Tensor]],
        states: Sequence[LayerState],
        damping: Damping,
    ) -> None:
        """Update the running averages of the factors by those of the batch (section 5)."""
        share = 1 - min(1 - 1 / damping.steps, self.factor_decay)
        for state, pair in zip(states, factors, strict=True):
            for name, factor in zip(("inputs", "outputs"), pair, strict=True):
                state[name] = state[name].lerp(factor, share) if name in state else factor
        mean = _mean_curvature(states)
        if damping.steps == 1:
            damping.strength = max(self.initial_damping * mean, torch.finfo(torch.float32).tiny)
            damping.factored = (damping.strength + self.decay) ** 0.5
        damping.strength = max(damping.strength, LEAST_DAMPING * mean)

    def _choose(
        self,
        curvature: Curvature,
        states: Sequence[LayerState],
        damping: Damping,
        grads: Sequence[Tensor],
    ) -> QuadraticStep:
        """The best step of the quadratic model; at times over three factored dampings (6.6)."""
        if damping.steps > FIRST_STEPS and damping.steps % self.inverse_interval:
            return self._minimize(curvature, states, damping, grads)
        change = DAMPING_DECAY ** (self.inverse_interval / 2)
        least = (LEAST_DAMPING * _mean_curvature(states)) ** 0.5
        trials = [1.0] if damping.steps <= FIRST_STEPS else [change, 1.0, 1 / change]
        best: tuple[QuadraticStep, float, list[tuple[Tensor, Tensor]]] | None = None
        for trial in trials:
            factored = max(damping.factored * trial, least)
            for state in states:
                _invert(state, factored)
            step = self._minimize(curvature, states, damping, grads)
            if best is None or step.gain < best[0].gain:
                best = step, factored, [(s["left"], s["right"]) for s in states]
        assert best is not None
        step, damping.factored, inverses = best
        for state, (left, right) in zip(states, inverses, strict=True):
            state["left"], state["right"] = left, right
        return step

    def _minimize(
        self,
        curvature: Curvature,
        states: Sequence[LayerState],
        damping: Damping,
        grads: Sequence[Tensor],
    ) -> QuadraticStep:
        """The minimum of the quadratic model over new direction and last update (section 7)."""
        new = [-(s["left"] @ g @ s["right"]) for s, g in zip(states, grads, strict=True)]
        directions = [new]
        if all("update" in state for state in states):
            directions.append([state["update"] for state in states])
        changes = [curvature.along(direction) for direction in directions]
        size = len(directions)
        linear, quadratic = np.zeros(size), np.zeros((size, size))
        for i in range(size):
            pairs = zip(grads, directions[i], strict=True)
            linear[i] = sum(float((g * u).sum()) for g, u in pairs)
            for j in range(i, size):
                quadratic[i, j] = quadratic[j, i] = float(changes[i].dot(changes[j])) + sum(
                    self._damped(damping, layer, u, v)
                    for layer, u, v in zip(
                        curvature.layers, directions[i], directions[j], strict=True
                    )
                )
        shares, gain = _lowest(quadratic, linear)
        updates = [
            sum((share * u for share, u in zip(shares[1:], us[1:], strict=True)), shares[0] * us[0])
            for us in zip(*directions, strict=True)
        ]
        return QuadraticStep(updates, gain)

    def _damped(self, damping: Damping, layer: LinearParameters, u: Tensor, v: Tensor) -> float:
        """The curvature between two updates that damping and decay add."""
        product = damping.strength * float((u * v).sum())
        if self.decay:
            columns = slice(None) if layer.bias is None else slice(-1)
            product += self.decay * float((u[:, columns] * v[:, columns]).sum())
        return product

    def _decay_penalty(self, layers: Sequence[LinearParameters]) -> float:
        if not self.decay:
            return 0.0
        squares: float = sum(float(layer.weight.detach().square().sum()) for layer in layers)
        return self.decay / 2 * squares

    def _adapt_damping(
        self,
        layers: Sequence[LinearParameters],
        states: Sequence[LayerState],
        damping: Damping,
        ratio: float,
    ) -> None:
        """Adapt the damping to the ratio of the loss's change to the predicted one (6.5)."""
        decay = DAMPING_DECAY**DAMPING_INTERVAL
        if ratio > 3 / 4:
            damping.strength *= decay
        elif not ratio >= 1 / 4:
            damping.strength /= decay
        if not ratio >= 0:
            # The loss rose: undo the step, and trust the model much less.
            damping.strength *= DAMPING_GROWTH
            damping.factored *= DAMPING_GROWTH**0.5
            for layer, state in zip(layers, states, strict=True):
                layer.add(-state.pop("update"))
                _invert(state, damping.factored)

    def _stored_damping(self) -> Damping:
        """The damping that the last step left, or that of the beginning."""
        for state in self.state.values():
            if "damping" in state:
                return Damping(**state["damping"])
        return Damping()


def _mean_curvature(states: Sequence[LayerState]) -> float:
    """The mean eigenvalue of the layers' Fisher matrices."""
    total = sum(float(s["inputs"].trace() * s["outputs"].trace()) for s in states)
    return total / sum(len(s["inputs"]) * len(s["outputs"]) for s in states)


def _lowest(quadratic: Array, linear: Array) -> tuple[Array, float]:
    """The minimizer of x'Cx / 2 + b'x, and the minimum."""
    if not (np.isfinite(quadratic).all() and np.isfinite(linear).all()):
        return np.zeros(len(linear)), 0.0
    # Scaled, so that a short last update is not taken for zero.
    scale = np.sqrt(np.maximum(quadratic.diagonal(), np.finfo(float).tiny))
    scaled = quadratic / np.outer(scale, scale)
    solution = -np.linalg.lstsq(scaled, linear / scale, rcond=1e-6)[0] / scale
    return solution, float(linear @ solution) / 2


def _invert(state: LayerState, factored: float) -> None:
    """Invert both factors with damping, balanced between the two (6.3)."""
    inputs, outputs = state["inputs"], state["outputs"]
    means = [float(f.trace()) / len(f) for f in (inputs, outputs)]
    balance = (means[0] / means[1]) ** 0.5 if min(means) > 0 else 1.0
    state["right"] = _inverse(inputs, factored * balance)
    state["left"] = _inverse(outputs, factored / balance)


def _inverse(factor: Tensor, damping: float) -> Tensor:
    """(factor + damping I)^-1 by Cholesky, computed in double precision."""
    matrix = factor.double()
    matrix = matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    root, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        # Not positive within rounding: treat all directions like the steepest.
        return torch.eye(len(factor), dtype=factor.dtype, device=factor.device) / float(
            matrix.trace()
        )
    # Contiguous like the tensors of a checkpoint: the order of sums depends on the layout.
    return torch.cholesky_inverse(root).to(factor.dtype).contiguous()


@dataclass(kw_only=True)
class KFAC(OptimizerSpec):
    """Natural gradient with Kronecker-factored curvature (Martens and Grosse 2015).

    Example:
        >>> import torch
        >>> from isthmus.losses import Squared
        >>> from isthmus.optim import KFAC
        >>> type(KFAC().build(torch.nn.Linear(3, 2), Squared())).__name__
        'KroneckerFactored'
    """

    COMPARES_LOSSES: ClassVar[bool] = True
    OBSERVES_FORWARD: ClassVar[bool] = True

    lr: float = 0.3
    """Share of the quadratic model's best step that is taken, in (0, 1]."""

    weight_decay: float = 1e-5
    """How strongly weight matrices are pulled to zero, >= 0; biases are left alone. Without it, few
    rows are overfitted; ten times as much can keep a deep network at the average row."""

    schedule: str = "constant"
    """How that share changes: one of `optim.SCHEDULES`."""

    warmup: float = 0.0
    """Share of the steps in which it rises from zero, in [0, 1)."""

    clip_norm: float | None = None
    """A clipped gradient is not the gradient of the loss, so there is no clipping."""

    damping: float = 0.01
    """Initial damping, as a multiple of the mean curvature, > 0; later it is adapted."""

    factor_decay: float = 0.95
    """Decay of the running means of the factors, in [0, 1)."""

    inverse_interval: int = 20
    """Steps between two updates of the inverses, >= 1."""

    adamw_lr: float = 3e-3
    """The learning rate of filters, gates and shared weights at its highest, > 0."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        super().check()
        require(0 < self.lr <= 1, f"KFAC: lr={self.lr} must be above 0 and at most 1")
        require(
            self.clip_norm is None,
            f"KFAC: clip_norm={self.clip_norm} would give the quadratic model a gradient that is "
            "not that of its loss; use None",
        )
        require(self.damping > 0, f"KFAC: damping={self.damping} must be positive")
        require(
            0 <= self.factor_decay < 1,
            f"KFAC: factor_decay={self.factor_decay} must be at least 0 and below 1",
        )
        require(
            self.inverse_interval >= 1,
            f"KFAC: inverse_interval={self.inverse_interval} must be at least 1",
        )
        require(self.adamw_lr > 0, f"KFAC: adamw_lr={self.adamw_lr} must be positive")

    @property
    def gradients_per_step(self) -> int:
        """About how many gradients a step computes."""
        return 4

    def choose_batch_size(self, rows: int) -> int:
        """All rows up to 2000, else 2000: the curvature of few rows is specific to them."""
        return min(rows, LARGE_BATCH)

    def build(self, network: nn.Module, loss: HasCurvature | None = None) -> torch.optim.Optimizer:
        """The torch optimizer over the network's parameters; RequestError without a loss."""
        self.check()
        if loss is None:
            raise RequestError("KFAC: build(network, loss) needs the loss, whose curvature it uses")
        return KroneckerFactored(
            parameter_groups(network.parameters(), self.weight_decay),
            network=network,
            loss=loss,
            lr=self.lr,
            damping=self.damping,
            factor_decay=self.factor_decay,
            inverse_interval=self.inverse_interval,
            adamw_lr=self.adamw_lr,
        )
