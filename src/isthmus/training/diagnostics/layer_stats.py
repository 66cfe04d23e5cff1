"""The effect of an optimizer step on each layer, and the activity of the hidden units."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from isthmus.kinds.activations import BUILT_IN, IS_ACTIVATION
from isthmus.types import Network, Output

# Shape letter: n rows.

ACTIVATION_TYPES = (
    *(type(activation.module()) for activation in BUILT_IN),
    *(nn.ReLU6, nn.LeakyReLU, nn.SELU, nn.CELU, nn.Mish),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softsign),
)
"""Elementwise activations that are observed even if a network builds them itself."""

DEAD_DERIVATIVE = 0.01
"""A unit is dead if its derivative is below this share of the largest one on every row."""

SATURATED_DERIVATIVE = 0.05
"""A unit is saturated on a row if its derivative is below this share of the largest one."""

FAR_INPUT = 1e3
"""An input at which a bounded activation is flat."""

DERIVATIVE_GRID = torch.linspace(-4.0, 4.0, 81)
"""The inputs among which the largest derivative of an activation is searched."""


def layer_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The trained weight matrices and filters by layer name, without biases and gates."""
    return {
        name.removesuffix(".weight"): parameter
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and parameter.requires_grad
    }


def has_linear_path(network: nn.Module) -> bool:
    """Whether some weights belong to no layer: they form a linear path parallel to the layers."""
    return any(not name.endswith(".weight") for name, p in network.named_parameters() if p.ndim > 1)


@dataclass
class LayerStepNorms:
    """The norms of one optimizer step, layer by layer."""

    network: nn.Module
    norms: dict[str, list[float]] = field(default_factory=dict)
    """The norms of each layer's gradient, of its weights before the step, and of the step."""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """A context that measures the step taken in it; `.grad` at its end is the gradient."""
        before = {name: w.detach().clone() for name, w in layer_weights(self.network).items()}
        yield
        norms = [
            norm
            for name, weight in layer_weights(self.network).items()
            for norm in _norms(weight, before[name])
        ]
        # One transfer from the device for all norms.
        values = torch.stack(norms).tolist() if norms else []
        self.norms = {
            name: [round_significant(v) for v in values[3 * i : 3 * i + 3]]
            for i, name in enumerate(before)
        }


@torch.no_grad()
def _norms(weight: nn.Parameter, before: Tensor) -> list[Tensor]:
    gradient = torch.zeros_like(before) if weight.grad is None else weight.grad
    return [_norm(values).float() for values in (gradient, before, weight - before)]


def _norm(values: Tensor) -> Tensor:
    # Divided by the largest entry first: squares of tiny gradients would underflow to zero.
    largest = values.abs().max()
    return torch.where(largest > 0, largest * (values / largest).norm(), largest)


@dataclass
class Activity:
    """The behaviour of the hidden units on the sample, by layer name."""

    dead: dict[str, float] = field(default_factory=dict)
    """The share of units that react to no row."""

    saturated: dict[str, float] = field(default_factory=dict)
    """The share of (row, unit) pairs on a flat end, for activations with two flat ends."""


def is_activation(module: nn.Module) -> bool:
    """Whether the derivative of a module shows if a unit still reacts to its input."""
    is_marked = getattr(module, IS_ACTIVATION, False) or isinstance(module, ACTIVATION_TYPES)
    return is_marked and not isinstance(module, nn.Identity)


class _Observer:
    """Hooks that measure the activations during a forward pass."""

    def __init__(self, network: Network) -> None:
        self.activity = Activity()
        self.layer = ""
        self.outputs: dict[str, Tensor] = {}
        self.handles = []
        for name, module in network.named_modules():
            if is_activation(module):
                # Before it runs, since it may overwrite its input.
                self.handles.append(module.register_forward_pre_hook(self.measure))
                self.handles.append(module.register_forward_hook(self.store_output))
            elif module is not network and any(True for _ in module.parameters(recurse=False)):
                self.handles.append(module.register_forward_hook(self.layer_hook(name)))

    def layer_hook(self, name: str) -> Callable[..., None]:
        def set_layer(*_: object) -> None:
            self.layer = name

        return set_layer

    def measure(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        dead, saturated = _dead_and_saturated(module, inputs[0])
        self.activity.dead[self.layer] = round_significant(dead)
        if saturated is not None:
            self.activity.saturated[self.layer] = round_significant(saturated)

    def store_output(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del module, inputs
        self.outputs[self.layer] = output


@torch.no_grad()
def measure_activity(network: Network, x: Tensor) -> tuple[Output, Activity]:
    """The output of a forward pass and the activity of its hidden units.

    An activation belongs to the layer that ran last before it, since one module may serve several.
    The activation of the code is left out: a code may be mostly zero on purpose.
    """
    observer = _Observer(network)
    try:
        output = network(x)
    finally:
        for handle in observer.handles:
            handle.remove()
    activity = observer.activity
    for layer, layer_output in observer.outputs.items():
        if layer_output is output.code:
            activity.dead.pop(layer, None)
            activity.saturated.pop(layer, None)
    return output, activity


def _dead_and_saturated(module: nn.Module, x: Tensor) -> tuple[float, float | None]:
    """The shares of dead units and saturated pairs, for inputs (n, units[, *sides]).

    Without two flat ends, an activation has no saturated pairs: None.
    """
    ends = _derivative(
        module, torch.tensor([-FAR_INPUT, FAR_INPUT], dtype=x.dtype, device=x.device)
    )
    largest = _derivative(module, DERIVATIVE_GRID.to(x)).max()
    derivative = _derivative(module, x).transpose(0, 1).flatten(1)  # (units, n * sides)
    dead = derivative.amax(dim=1) < DEAD_DERIVATIVE * largest
    saturated = None
    if bool((ends < DEAD_DERIVATIVE * largest).all()):
        saturated = float((derivative < SATURATED_DERIVATIVE * largest).float().mean())
    return float(dead.float().mean()), saturated


def _derivative(module: nn.Module, x: Tensor) -> Tensor:
    with torch.enable_grad():
        points = x.detach().requires_grad_()
        # `forward` itself runs no hooks; the copy is for modules that work in place.
        out = module.forward(points.clone())
        (derivative,) = torch.autograd.grad(out.sum(), points)
    return derivative.abs()


def round_significant(value: float) -> float:
    """A value rounded to three significant digits, which is enough for the record of a fit."""
    return float(f"{value:.3g}")
