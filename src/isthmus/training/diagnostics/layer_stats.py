"""What a step does to each layer, and how the units of the hidden layers react."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.kinds import ACTIVATIONS
from isthmus.types import Network, Output

# Shape letter: n rows.

OTHER_ACTIVATIONS = (
    *(nn.ReLU6, nn.LeakyReLU, nn.SELU, nn.CELU, nn.Mish),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softsign),
)
"""Elementwise activations that are observed although `kinds.ACTIVATIONS` does not list them."""

DEAD_SLOPE = 0.01
"""A unit is dead whose slope is below this share of the steepest on every row."""

SATURATED_SLOPE = 0.05
"""A unit is saturated on a row where its slope is below this share of the steepest."""

FAR = 1e3
STEEPEST = torch.linspace(-4.0, 4.0, 81)
"""Where to look for an activation's steepest slope."""


def weights_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """Every trained matrix or filter by the name of its layer; biases and gates are left out."""
    return {
        name.removesuffix(".weight"): parameter
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and parameter.requires_grad
    }


def has_bypass(network: nn.Module) -> bool:
    """Whether some weights are no layer's of their own: a linear path beside the layers."""
    return any(not name.endswith(".weight") for name, p in network.named_parameters() if p.ndim > 1)


@dataclass
class StepWatch:
    """One step of the optimizer, seen layer by layer."""

    network: nn.Module
    seen: dict[str, list[float]] = field(default_factory=dict)
    """For each layer the norms of its gradient, of its weights before the step, of the step."""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Watch the step taken inside the block; what `.grad` then holds counts as its gradient."""
        before = {name: w.detach().clone() for name, w in weights_of(self.network).items()}
        yield
        norms = [
            norm
            for name, weight in weights_of(self.network).items()
            for norm in _norms(weight, before[name])
        ]
        # One look at the device for all of them.
        values = torch.stack(norms).tolist() if norms else []
        self.seen = {
            name: [short(v) for v in values[3 * i : 3 * i + 3]] for i, name in enumerate(before)
        }


@torch.no_grad()
def _norms(weight: nn.Parameter, before: Tensor) -> list[Tensor]:
    # The largest entry is divided out first: squares of tiny gradients would underflow to zero.
    gradient = torch.zeros_like(before) if weight.grad is None else weight.grad
    return [_norm(values).float() for values in (gradient, before, weight - before)]


def _norm(values: Tensor) -> Tensor:
    largest = values.abs().max()
    return torch.where(largest > 0, largest * (values / largest).norm(), largest)


@dataclass
class Activity:
    """How the units of the hidden layers behave on the sample, by the name of the layer."""

    dead: dict[str, float] = field(default_factory=dict)
    """Share of units that react on no row."""

    saturated: dict[str, float] = field(default_factory=dict)
    """Share of (row, unit) pairs on a flat end, for activations that are flat at both ends."""


def activation_types() -> tuple[type[nn.Module], ...]:
    """The modules whose derivative shows whether a unit still reacts to its input."""
    registered = {type(activation.module()) for activation in ACTIVATIONS.values()}
    return (*(registered - {nn.Identity}), *OTHER_ACTIVATIONS)


class _Observer:
    """Hooks that note what activations do in a forward pass."""

    def __init__(self, network: Network) -> None:
        self.activity = Activity()
        self.layer = ""
        self.made: dict[str, Tensor] = {}
        self.handles = []
        activations = activation_types()
        for name, module in network.named_modules():
            if isinstance(module, activations):
                # Before it runs, since it may write over its input.
                self.handles.append(module.register_forward_pre_hook(self.react))
                self.handles.append(module.register_forward_hook(self.keep))
            elif module is not network and any(True for _ in module.parameters(recurse=False)):
                self.handles.append(module.register_forward_hook(self.passing(name)))

    def passing(self, name: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            self.layer = name

        return note

    def react(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        dead, saturated = _unit_shares(module, inputs[0])
        self.activity.dead[self.layer] = short(dead)
        if saturated is not None:
            self.activity.saturated[self.layer] = short(saturated)

    def keep(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        del module, inputs
        self.made[self.layer] = output


@torch.no_grad()
def activity_of(network: Network, x: Tensor) -> tuple[Output, Activity]:
    """One forward pass with the activations observed by hooks that are gone when it returns.

    An activation belongs to the layer that ran last before it, since one module may serve many.
    The one that makes the code is left out: a code may have good reasons to be mostly at zero.
    """
    observer = _Observer(network)
    try:
        output = network(x)
    finally:
        for handle in observer.handles:
            handle.remove()
    activity = observer.activity
    for layer, made in observer.made.items():
        if made is output.code:
            activity.dead.pop(layer, None)
            activity.saturated.pop(layer, None)
    return output, activity


def _unit_shares(module: nn.Module, x: Tensor) -> tuple[float, float | None]:
    """Of inputs (n, units) or (n, channels, *sides): share of dead units, of saturated pairs."""
    ends = _slope(module, torch.tensor([-FAR, FAR], dtype=x.dtype, device=x.device))
    steepest = _slope(module, STEEPEST.to(x)).max()
    slope = _slope(module, x).transpose(0, 1).flatten(1)  # (units, all they meet)
    dead = slope.amax(dim=1) < DEAD_SLOPE * steepest
    flat_at_both = bool((ends < DEAD_SLOPE * steepest).all())
    saturated = float((slope < SATURATED_SLOPE * steepest).float().mean()) if flat_at_both else None
    return float(dead.float().mean()), saturated


def _slope(module: nn.Module, x: Tensor) -> Tensor:
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        # The module's own forward, round its hooks; on a copy, since it may write in place.
        out = module.forward(at.clone())
        (slope,) = torch.autograd.grad(out.sum(), at)
    return slope.abs()


def short(value: float) -> float:
    """Three significant digits, which is what a record of a fit is good for."""
    return float(f"{value:.3g}")
