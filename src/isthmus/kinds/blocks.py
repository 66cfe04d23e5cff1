"""Building blocks of the kinds: dense stacks, tied layers and output activations."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Number

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.errors import RequestError
from isthmus.kinds.activations import activation
from isthmus.types import Array, Facts, Module


class TiedLinear(Module):
    """y = x W + b, where W is the transpose of another layer's weight (Vincent et al. 2010)."""

    def __init__(self, source: nn.Linear) -> None:
        super().__init__()
        self.source = (source,)  # in a tuple, so that the weight is not registered twice
        self.bias = nn.Parameter(torch.zeros(source.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, out_features of the source) to (B, in_features of the source)."""
        return functional.linear(x, self.source[0].weight.t(), self.bias)


class Stack(Module):
    """A nonlinear path: affine layers with activations between them, and none after the last.

    Layers can be run one by one: encoder layer i and decoder layer depth - 1 - i mirror each other.
    """

    activation: nn.Module
    dropout: nn.Module

    @property
    def depth(self) -> int:
        """The number of affine layers."""
        raise NotImplementedError

    def affine(self, i: int) -> nn.Module:
        """The module that holds the parameters of layer i, from 0."""
        raise NotImplementedError

    def layer(self, i: int, x: Tensor) -> Tensor:
        """The output of layer i before the activation."""
        return self.affine(i)(x)  # type: ignore[no-any-return]

    def n_positions(self, i: int) -> int:
        """The number of positions of a row at which the weights of layer i are used."""
        del i
        return 1

    @property
    def multiply_adds(self) -> int:
        """The number of multiply-adds per row."""
        return sum(
            self.n_positions(i) * weight.numel()
            for i in range(self.depth)
            for weight in self.affine(i).parameters()
            if weight.ndim > 1
        )

    def activate(self, x: Tensor) -> Tensor:
        """Activation and dropout between two layers; the shape stays the same."""
        return self.dropout(self.activation(x))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """A batch through all layers."""
        for i in range(self.depth - 1):
            x = self.activate(self.layer(i, x))
        return self.layer(self.depth - 1, x)

    def zero_last(self) -> None:
        """Set the last layer to zero, and so the output; a tied last layer keeps its weight."""
        for parameter in self.affine(self.depth - 1).parameters(recurse=False):
            nn.init.zeros_(parameter)


class Dense(Stack):
    """(B, *shape) to (B, widths[-1]), by linear layers; the axes of a row are flattened."""

    def __init__(self, widths: Sequence[int], act: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation_name = act
        self.activation = activation(act)
        self.dropout = nn.Dropout(dropout)

    @property
    def depth(self) -> int:
        """The number of linear layers."""
        return len(self.layers)

    def affine(self, i: int) -> nn.Module:
        """Linear layer i, or a tied one."""
        return self.layers[i]

    def layer(self, i: int, x: Tensor) -> Tensor:
        """(B, ...) to (B, widths[i + 1])."""
        return super().layer(i, x.flatten(1))

    def mirrored(self, *, tied: bool) -> "Dense":
        """The stack in the opposite direction; if `tied`, with transposed weights of this one."""
        mirror = Dense(self.widths[::-1], "linear")
        mirror.activation_name, mirror.activation = self.activation_name, self.activation
        mirror.dropout = self.dropout
        if tied:
            mirror.layers = nn.ModuleList(
                TiedLinear(layer) for layer in reversed(self.layers) if isinstance(layer, nn.Linear)
            )
        return mirror


class Bounded(Module):
    """A sigmoid output from low to high, with a margin so that finite inputs reach both ends."""

    MARGIN = 0.05

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        margin = self.MARGIN * max(high - low, 1e-6)
        self.low, self.high = low - margin, high + margin

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, elementwise: low + (high - low) * sigmoid(x)."""
        return self.low + (self.high - self.low) * torch.sigmoid(x)

    def linearised(self) -> tuple[float, float]:
        """(slope, offset) such that forward(slope * y + offset) is near y around the middle."""
        slope = 4.0 / (self.high - self.low)
        return slope, -slope * (self.low + self.high) / 2


class Clipped(Module):
    """Clip the output to the range of the training rows.

    In training a tenth of the excess remains, so that gradients do not vanish outside the range.
    """

    LEAK = 0.1

    def __init__(self, floor: Array, ceiling: Array) -> None:
        super().__init__()
        # Facts of the rows, which are saved with the preparation, not with the weights.
        for name, ends in (("floor", floor), ("ceiling", ceiling)):
            self.register_buffer(name, torch.as_tensor(ends).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape), elementwise: x from floor to ceiling."""
        clipped = torch.clamp(x, self.get_buffer("floor"), self.get_buffer("ceiling"))
        return torch.lerp(clipped, x.to(clipped.dtype), self.LEAK) if self.training else clipped

    def linearised(self) -> tuple[float, float]:
        """(slope, offset) such that forward(slope * y + offset) is y between the ends."""
        return 1.0, 0.0


def output_layer(name: str, facts: Facts) -> Bounded | Clipped | None:
    """The output activation: see `Kind.output`; None is the identity."""
    if name == "bounded":
        return Bounded(facts.low, facts.high)
    if name == "auto" and facts.floor is not None and facts.ceiling is not None:
        return Clipped(facts.floor, facts.ceiling)
    return None


def check_rate(name: str, value: float) -> None:
    """Raise RequestError unless 0 <= value < 1."""
    if not 0 <= value < 1:
        raise RequestError(f"{name}={value} must be at least 0 and below 1")


def whole_widths(name: str, widths: Sequence[int]) -> tuple[int, ...]:
    """The layer widths; RequestError unless they are positive whole numbers, in a sequence."""
    if isinstance(widths, (str, Number)):
        raise RequestError(f"{name}={widths!r} must be a tuple of widths, such as ({widths},)")
    for width in widths:
        if not isinstance(width, Integral) or width < 1:
            raise RequestError(f"{name}={tuple(widths)}: every width must be a whole number >= 1")
    return tuple(int(width) for width in widths)
