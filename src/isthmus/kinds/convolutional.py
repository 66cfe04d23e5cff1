"""Convolutional: strided convolutions to the code and back, for images and signals of any size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from isthmus.errors import require
from isthmus.kinds.activations import activation
from isthmus.kinds.base import CodeNetwork, Kind, LinearPath
from isthmus.kinds.blocks import Stack, check_rate, whole_widths
from isthmus.types import Facts

FIRST_CHANNELS, DOUBLINGS, SMALLEST_SIDE, DEEPEST = 16, 2, 4, 5
"""Feature maps of the first stage for each axis, so that it makes as many numbers of a signal's
sample as of an image's pixel; how often they double; the shortest side; the most stages."""


IMAGES = 4
"""Axes of a batch of images."""

CHANNELS_LAST = "channels_last"
FORMATS = ("auto", CHANNELS_LAST, "contiguous")


class Axes(NamedTuple):
    """The layers of one dimensionality."""

    convolution: type[nn.Conv1d] | type[nn.Conv2d]
    transposed: type[nn.ConvTranspose1d] | type[nn.ConvTranspose2d]
    dropout: type[nn.Dropout1d] | type[nn.Dropout2d]


AXES = {
    1: Axes(nn.Conv1d, nn.ConvTranspose1d, nn.Dropout1d),
    2: Axes(nn.Conv2d, nn.ConvTranspose2d, nn.Dropout2d),
}


@dataclass(kw_only=True)
class Convolutional(Kind):
    """Convolutions of stride 2 that halve a signal or image stage by stage, then one dense layer.

    Any height, width, length and number of channels; a row of a table is read as a signal. Each
    stage remembers the size it met, and its mirror restores exactly that size. With `skip`, a
    linear path runs beside the convolutions, so that the network can begin at the PCA solution.
    """

    channels: tuple[int, ...] | None = None
    """Feature maps a stage; None doubles from 32 for images, 16 for signals, to at most four times
    as many until a side would fall below 4."""

    kernel_size: int = 3
    """Width of the filters, odd."""

    skip: bool = True
    """Whether a linear path runs beside the convolutions."""

    memory_format: str = "auto"
    """How feature maps of images lie: "channels_last", those of a pixel side by side, "contiguous",
    one after the other, or "auto", the first on a processor, which is faster there."""

    @property
    def starts_linear(self) -> bool:
        """Whether the network has a linear path that can start at the PCA solution."""
        return self.skip

    def resolved(self, facts: Facts, n_components: int) -> Self:
        """The same kind with the feature maps of its stages chosen."""
        del n_components
        return replace(self, channels=self._channels(facts))

    def chosen_on(self, device: torch.device, facts: Facts) -> dict[str, str]:
        """How the feature maps of images lie."""
        if len(facts.shape) + 1 != IMAGES:
            return {}
        last = lies_last(self.memory_format, device)
        return {"memory_format": CHANNELS_LAST if last else "contiguous"}

    def build(self, facts: Facts, n_components: int) -> CodeNetwork:
        """The network for rows of `facts.shape`; (D,) is taken as (1, D)."""
        self.check_width(facts, n_components)
        require(
            self.memory_format in FORMATS,
            f"memory_format={self.memory_format!r} is not known; use one of {', '.join(FORMATS)}",
        )
        check_rate("dropout", self.dropout)
        require(
            self.kernel_size >= 1 and self.kernel_size % 2 == 1,
            f"kernel_size={self.kernel_size} must be odd and positive",
        )
        shape = _with_channels(facts.shape)
        channels = whole_widths("channels", self._channels(facts))
        require(bool(channels), "channels=() has no stage; give at least one, such as (32,)")
        encoder = ConvEncoder(shape, channels, n_components, self)
        decoder = ConvDecoder(encoder.sizes, (shape[0], *channels), n_components, self)
        linear = LinearPath(facts.n_features, n_components) if self.skip else None
        return CodeNetwork(
            facts, encoder=encoder, decoder=decoder, linear=linear, output=self.output
        )

    def _channels(self, facts: Facts) -> tuple[int, ...]:
        return stages(_with_channels(facts.shape)[1:]) if self.channels is None else self.channels


def _with_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(C, *sides): a row of a table is a signal of one channel."""
    return shape if len(shape) > 1 else (1, *shape)


def stages(sides: Sequence[int]) -> tuple[int, ...]:
    """Feature maps a stage: 32, 64, 128, 128, ... while the shortest side stays at least 4.

    Half as many for signals, whose stages halve one side alone.
    """
    side, first = min(sides), FIRST_CHANNELS * len(sides)
    depth = 1
    while depth < DEEPEST and _halved(side, depth + 1) >= SMALLEST_SIDE:
        depth += 1
    return tuple(first * 2 ** min(stage, DOUBLINGS) for stage in range(depth))


def _halved(side: int, times: int) -> int:
    # A convolution of stride 2 with half-kernel padding leaves ceil(side / 2).
    return math.ceil(side / (1 << times))


class ConvEncoder(Stack):
    """(B, *shape) to (B, K): a convolution of stride 2 a stage, then a dense layer."""

    def __init__(
        self, shape: Sequence[int], channels: Sequence[int], n_components: int, spec: Convolutional
    ) -> None:
        super().__init__()
        axes = AXES[len(shape) - 1]
        self.shape, self.memory_format = tuple(shape), spec.memory_format
        self.sizes = [
            tuple(_halved(side, stage) for side in shape[1:]) for stage in range(len(channels) + 1)
        ]
        self.activation = activation(spec.activation)
        self.dropout = axes.dropout(spec.dropout)
        self.convolutions = nn.ModuleList(
            axes.convolution(
                before, after, spec.kernel_size, stride=2, padding=spec.kernel_size // 2
            )
            for before, after in zip((shape[0], *channels[:-1]), channels, strict=True)
        )
        self.dense = nn.Linear(channels[-1] * _volume(self.sizes[-1]), n_components)

    @property
    def depth(self) -> int:
        """The stages, and the dense layer."""
        return len(self.convolutions) + 1

    def affine(self, i: int) -> nn.Module:
        """A convolution, or at the end the dense layer."""
        return self.convolutions[i] if i < len(self.convolutions) else self.dense

    def places(self, i: int) -> int:
        """Of a convolution, the places of the maps that it makes."""
        return _volume(self.sizes[i + 1]) if i < len(self.convolutions) else 1

    def layer(self, i: int, x: Tensor) -> Tensor:
        """(B, channels, *sizes[i]) to those of stage i + 1, at the end to (B, K)."""
        if i == 0:
            x = _laid_out(x.reshape(-1, *self.shape), self.memory_format)
        return super().layer(i, x if i < len(self.convolutions) else x.flatten(1))


class ConvDecoder(Stack):
    """(B, K) to (B, C, *sides): the encoder's stages mirrored, each restoring the size it met."""

    def __init__(
        self,
        sizes: Sequence[tuple[int, ...]],
        channels: Sequence[int],
        n_components: int,
        spec: Convolutional,
    ) -> None:
        super().__init__()
        axes = AXES[len(sizes[0])]
        self.start, self.memory_format = (channels[-1], *sizes[-1]), spec.memory_format
        self.activation = activation(spec.activation)
        self.dropout = axes.dropout(spec.dropout)
        self.dense = nn.Linear(n_components, channels[-1] * _volume(sizes[-1]))
        self.sizes = list(reversed(sizes[:-1]))
        self.convolutions = nn.ModuleList(
            axes.transposed(
                after, before, spec.kernel_size, stride=2, padding=spec.kernel_size // 2
            )
            for before, after in reversed(list(pairwise(channels)))
        )

    @property
    def depth(self) -> int:
        """The dense layer, and the stages."""
        return len(self.convolutions) + 1

    def affine(self, i: int) -> nn.Module:
        """The dense layer, then the transposed convolutions."""
        return self.convolutions[i - 1] if i else self.dense

    def places(self, i: int) -> int:
        """Of a transposed convolution, the places of the maps that it is given."""
        given = [self.start[1:], *self.sizes]
        return _volume(given[i - 1]) if i else 1

    def layer(self, i: int, x: Tensor) -> Tensor:
        """(B, K) to (B, channels, *smallest size), then stage by stage to the size of a row."""
        if i == 0:
            return _laid_out(super().layer(i, x).reshape(-1, *self.start), self.memory_format)
        convolution: Any = self.affine(i)
        made: Tensor = convolution(x, output_size=self.sizes[i - 1])
        return made.contiguous() if i == len(self.convolutions) else made


def lies_last(memory_format: str, device: torch.device) -> bool:
    """Whether the feature maps of a pixel lie side by side there."""
    return memory_format == CHANNELS_LAST or (memory_format == "auto" and device.type == "cpu")


def _laid_out(x: Tensor, memory_format: str) -> Tensor:
    """Feature maps of images as they are to lie, which the convolutions that follow keep up."""
    if x.ndim != IMAGES or not lies_last(memory_format, x.device):
        return x
    if x.shape[1] == 1:
        # Of one map both layouts are the same memory, and torch keeps the strides that it finds:
        # by those of the other layout, a first layer's weights take seven times as long.
        return x.squeeze(1).contiguous().unsqueeze(3).permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)


def _volume(size: Sequence[int]) -> int:
    volume = 1
    for side in size:
        volume *= side
    return volume
