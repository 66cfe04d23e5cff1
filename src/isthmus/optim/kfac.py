"""K-FAC: natural gradient steps with the curvature of each linear layer as a Kronecker product."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.errors import RequestError, require
from isthmus.optim.adaptive import AdamW
from isthmus.optim.base import OptimizerSpec, Whole, parameter_groups
from isthmus.optim.curvature import Curvature, Layer, Watch
from isthmus.types import Predictive

# The paper is Martens and Grosse (2015); sections and equations are those of arXiv:1503.05671.

JUDGED_EVERY = 5
"""Steps between two looks at how well the quadratic model foretold the loss (T1)."""

LARGE_BATCH = 2000
"""Rows a batch: a minimum of the quadratic model over few rows is one of those rows' noise."""

CALMER = 19 / 20
"""What damping shrinks by with each step that goes as foretold (omega, section 6.5)."""

FIRST_STEPS = 10
"""Steps at the beginning that are all judged, and for each of which the inverses are made anew."""

ALARM = 10.0
"""What damping grows by when the loss rises."""

ROUNDING = 16
"""Changes of the loss below so many units of its last place say nothing."""

LEAST_DAMPING = 1e-8
"""Damping falls no lower than this share of the mean curvature, for single precision's sake."""


@dataclass
class Damping:
    """What is kept from step to step beside the tensors of each layer."""

    steps: int = 0
    strength: float = 0.0
    """What is added to the exact curvature of the quadratic model (lambda)."""

    factored: float = 0.0
    """What is added to the factors of the inverse, shared between the two (gamma)."""


@dataclass
class Move:
    """A step of the quadratic model: `new` times a fresh direction plus `old` times the last."""

    updates: list[Tensor] = field(default_factory=list)
    gain: float = 0.0
    """What the model foretells for the loss, <= 0."""


class KroneckerFactored(Whole):
    """K-FAC for every linear layer of `network` and AdamW for all other parameters.

    `step(closure)` watches the first call of `closure`, which must run `network` forward once and
    leave gradients. Weights that are used twice in a pass, filters and gates go to AdamW, whose
    rate is `adamw_lr` times the share that `lr` has of its first value. Weight decay is part of
    the objective of linear layers (L2) and apart from the gradient elsewhere. Weights of rows are
    in the gradient but not in the curvature.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        network: nn.Module,
        loss: Predictive,
        lr: float = 1.0,
        damping: float = 0.01,
        memory: float = 0.95,
        refresh: int = 20,
        adamw_lr: float = 3e-3,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})
        self.network, self.loss = network, loss
        self.lr, self.damping, self.memory, self.refresh = lr, damping, memory, refresh
        self.adamw_lr = adamw_lr
        self.trained = [p for group in self.param_groups for p in group["params"]]
        self.decay: float = max(group["weight_decay"] for group in self.param_groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """One step of every parameter; what `closure` returned before it."""
        kept = self._kept()
        watch = Watch(self.network, self.loss, self.trained, seed=kept.steps)
        with torch.enable_grad(), watch:
            value = closure()
        before = float(torch.as_tensor(value).detach())
        if not np.isfinite(before):
            return value  # whoever watches the loss will take it from here
        gradients = {p: p.grad for p in self.trained if p.grad is not None}
        seen = watch.curvature
        if seen is not None and seen.layers:
            self._descend(seen, kept, before, closure)
        self._step_rest(gradients, [] if seen is None else seen.layers)
        return value

    def _step_rest(self, gradients: Mapping[nn.Parameter, Tensor], layers: Sequence[Layer]) -> None:
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

    def _descend(
        self, seen: Curvature, kept: Damping, before: float, closure: Callable[[], Any]
    ) -> None:
        """The K-FAC step of the layers that were seen."""
        states = [self.state[layer.weight] for layer in seen.layers]
        factors = seen.factors()
        if not all(bool(factor.isfinite().all()) for pair in factors for factor in pair):
            return  # a gradient that is finite, of rows whose squares are not
        kept.steps += 1
        self._average(factors, states, kept)
        slopes = [layer.gradient + self.decay * layer.decaying for layer in seen.layers]
        before += self._penalty(seen.layers)
        move = self._choose(seen, states, kept, slopes)
        rate = self.param_groups[0]["lr"]
        for layer, state, update in zip(seen.layers, states, move.updates, strict=True):
            state["update"] = (rate * update).contiguous()
            layer.move(state["update"])
        if kept.steps <= FIRST_STEPS or kept.steps % JUDGED_EVERY == 0:
            with torch.enable_grad():
                after = float(torch.as_tensor(closure()).detach()) + self._penalty(seen.layers)
            # A share r of the model's best step gains 2 r - r^2 of what that does.
            foretold = move.gain * (2 * rate - rate**2)
            heard = ROUNDING * torch.finfo(slopes[0].dtype).eps * abs(before)
            if not heard >= max(-foretold, after - before):
                self._judge(seen.layers, states, kept, (after - before) / foretold)
        self._keep(states[0], kept)

    def _average(
        self,
        factors: Sequence[tuple[Tensor, Tensor]],
        states: Sequence[dict[str, Any]],
        kept: Damping,
    ) -> None:
        """Take the batch's factors into the running ones (section 5)."""
        share = 1 - min(1 - 1 / kept.steps, self.memory)
        for state, pair in zip(states, factors, strict=True):
            for name, factor in zip(("inputs", "outputs"), pair, strict=True):
                state[name] = state[name].lerp(factor, share) if name in state else factor
        mean = _mean_curvature(states)
        if kept.steps == 1:
            kept.strength = max(self.damping * mean, torch.finfo(torch.float32).tiny)
            kept.factored = (kept.strength + self.decay) ** 0.5
        kept.strength = max(kept.strength, LEAST_DAMPING * mean)

    def _choose(
        self,
        seen: Curvature,
        states: Sequence[dict[str, Any]],
        kept: Damping,
        slopes: Sequence[Tensor],
    ) -> Move:
        """The best move of the quadratic model; where due, over three factored dampings (6.6)."""
        if kept.steps > FIRST_STEPS and kept.steps % self.refresh:
            return self._move(seen, states, kept, slopes)
        turn = CALMER ** (self.refresh / 2)
        least = (LEAST_DAMPING * _mean_curvature(states)) ** 0.5
        trials = [1.0] if kept.steps <= FIRST_STEPS else [turn, 1.0, 1 / turn]
        best: tuple[Move, float, list[Any]] | None = None
        for trial in trials:
            factored = max(kept.factored * trial, least)
            for state in states:
                _invert(state, factored)
            move = self._move(seen, states, kept, slopes)
            if best is None or move.gain < best[0].gain:
                best = move, factored, [(s["left"], s["right"]) for s in states]
        assert best is not None
        move, kept.factored, inverses = best
        for state, (left, right) in zip(states, inverses, strict=True):
            state["left"], state["right"] = left, right
        return move

    def _move(
        self,
        seen: Curvature,
        states: Sequence[dict[str, Any]],
        kept: Damping,
        slopes: Sequence[Tensor],
    ) -> Move:
        """The minimum of the quadratic model over new direction and last update (section 7)."""
        new = [-(s["left"] @ g @ s["right"]) for s, g in zip(states, slopes, strict=True)]
        ways = [new]
        if all("update" in state for state in states):
            ways.append([state["update"] for state in states])
        moved = [seen.along(way) for way in ways]
        size = len(ways)
        slope, curved = np.zeros(size), np.zeros((size, size))
        for i in range(size):
            slope[i] = sum(float((g * u).sum()) for g, u in zip(slopes, ways[i], strict=True))
            for j in range(i, size):
                curved[i, j] = curved[j, i] = float(moved[i].dot(moved[j])) + sum(
                    self._damped(kept, layer, u, v)
                    for layer, u, v in zip(seen.layers, ways[i], ways[j], strict=True)
                )
        shares, gain = _lowest(curved, slope)
        updates = [
            sum((share * u for share, u in zip(shares[1:], us[1:], strict=True)), shares[0] * us[0])
            for us in zip(*ways, strict=True)
        ]
        return Move(updates, gain)

    def _damped(self, kept: Damping, layer: Layer, u: Tensor, v: Tensor) -> float:
        """What damping and decay add to the curvature between two updates."""
        product = kept.strength * float((u * v).sum())
        if self.decay:
            columns = slice(None) if layer.bias is None else slice(-1)
            product += self.decay * float((u[:, columns] * v[:, columns]).sum())
        return product

    def _penalty(self, layers: Sequence[Layer]) -> float:
        if not self.decay:
            return 0.0
        squares: float = sum(float(layer.weight.detach().square().sum()) for layer in layers)
        return self.decay / 2 * squares

    def _judge(
        self,
        layers: Sequence[Layer],
        states: Sequence[dict[str, Any]],
        kept: Damping,
        ratio: float,
    ) -> None:
        """Adapt the damping to the share of the foretold fall that came true (6.5)."""
        calmer = CALMER**JUDGED_EVERY
        if ratio > 3 / 4:
            kept.strength *= calmer
        elif not ratio >= 1 / 4:
            kept.strength /= calmer
        if not ratio >= 0:
            # The loss rose: take the step back, and trust the model much less.
            kept.strength *= ALARM
            kept.factored *= ALARM**0.5
            for layer, state in zip(layers, states, strict=True):
                layer.move(-state.pop("update"))
                _invert(state, kept.factored)

    def _kept(self) -> Damping:
        """What the last step left, or a beginning."""
        for state in self.state.values():
            if "kept" in state:
                return Damping(**state["kept"])
        return Damping()

    def _keep(self, state: dict[str, Any], kept: Damping) -> None:
        state["kept"] = vars(kept)


def _mean_curvature(states: Sequence[dict[str, Any]]) -> float:
    """The mean eigenvalue of the layers' Fisher matrices."""
    total = sum(float(s["inputs"].trace() * s["outputs"].trace()) for s in states)
    return total / sum(len(s["inputs"]) * len(s["outputs"]) for s in states)


def _lowest(curved: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, float]:
    """Where x'Cx / 2 + b'x is lowest, and how low it is there."""
    if not (np.isfinite(curved).all() and np.isfinite(slope).all()):
        return np.zeros(len(slope)), 0.0
    # Scaled, so that a short last update does not look like none.
    scale = np.sqrt(np.maximum(curved.diagonal(), np.finfo(float).tiny))
    even = curved / np.outer(scale, scale)
    found = -np.linalg.lstsq(even, slope / scale, rcond=1e-6)[0] / scale
    return found, float(slope @ found) / 2


def _invert(state: dict[str, Any], factored: float) -> None:
    """Inverses of both factors with damping, shared so that it weighs on both alike (6.3)."""
    inputs, outputs = state["inputs"], state["outputs"]
    means = [float(f.trace()) / len(f) for f in (inputs, outputs)]
    balance = (means[0] / means[1]) ** 0.5 if min(means) > 0 else 1.0
    state["right"] = _inverse(inputs, factored * balance)
    state["left"] = _inverse(outputs, factored / balance)


def _inverse(factor: Tensor, damping: float) -> Tensor:
    """(factor + damping I)^-1 by Cholesky, in double precision whatever the factor's."""
    matrix = factor.double()
    matrix = matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    root, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        # Not positive to rounding, however damped: as if all its directions were the steepest.
        return torch.eye(len(factor), dtype=factor.dtype, device=factor.device) / float(
            matrix.trace()
        )
    # Row by row, as a checkpoint gives it back: products add up in the order of the memory.
    return torch.cholesky_inverse(root).to(factor.dtype).contiguous()


@dataclass(kw_only=True)
class KFAC(OptimizerSpec):
    """Natural gradient with Kronecker-factored curvature (Martens and Grosse 2015)."""

    COMPARES: ClassVar[bool] = True
    WATCHES: ClassVar[bool] = True

    lr: float = 0.3
    """Share of the quadratic model's best step that is taken, in (0, 1]."""

    weight_decay: float = 1e-5
    """How strongly weight matrices are pulled to zero, >= 0; biases are left alone. Few rows are
    learned by heart without; ten times as much can hold a deep network at the average."""

    schedule: str = "constant"
    """How that share moves: one of `optim.SCHEDULES`."""

    warmup: float = 0.0
    """Share of the steps in which it rises from zero, in [0, 1)."""

    clip_norm: float | None = None
    """A clipped gradient would be that of no function, so there is no clipping."""

    damping: float = 0.01
    """Damping at the beginning, as a multiple of the mean curvature, > 0; it adapts itself."""

    memory: float = 0.95
    """Decay of the running means of the factors, in [0, 1)."""

    refresh: int = 20
    """Steps between new inverses, >= 1."""

    adamw_lr: float = 3e-3
    """The learning rate of filters, gates and shared weights at its highest, > 0."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        super().check()
        require(0 < self.lr <= 1, f"KFAC: lr={self.lr} must be above 0 and at most 1")
        require(
            self.clip_norm is None,
            f"KFAC: clip_norm={self.clip_norm} would give the quadratic model a gradient that is "
            "none of its function; use None",
        )
        require(self.damping > 0, f"KFAC: damping={self.damping} must be positive")
        require(0 <= self.memory < 1, f"KFAC: memory={self.memory} must be at least 0 and below 1")
        require(self.refresh >= 1, f"KFAC: refresh={self.refresh} must be at least 1")
        require(self.adamw_lr > 0, f"KFAC: adamw_lr={self.adamw_lr} must be positive")

    @property
    def evaluations_a_step(self) -> int:
        """Gradients a step needs, about."""
        return 4

    def choose_batch_size(self, rows: int) -> int:
        """All rows up to 2000, else 2000: the curvature of few rows is good for them alone."""
        return min(rows, LARGE_BATCH)

    def build(self, network: nn.Module, loss: Predictive | None = None) -> torch.optim.Optimizer:
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
            memory=self.memory,
            refresh=self.refresh,
            adamw_lr=self.adamw_lr,
        )
