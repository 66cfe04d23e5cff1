"""Convolutional: strided convolutions for images and signals of any size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from isthmus.errors import require
from isthmus.kinds.activations import activation
from isthmus.kinds.base import CodeNetwork, Kind, LinearPath
from isthmus.kinds.blocks import Stack, check_rate, whole_widths
from isthmus.types import Facts

FIRST_CHANNELS, DOUBLINGS, SMALLEST_SIDE, DEEPEST = 16, 2, 4, 5
"""Feature maps of the first stage per axis, how often they double, the shortest side, and the
largest number of stages."""

IMAGES = 4
"""Axes of a batch of images."""

CHANNELS_LAST = "channels_last"
FORMATS = ("auto", CHANNELS_LAST, "contiguous")


class ConvLayers(NamedTuple):
    """The layers for signals or for images."""

    convolution: type[nn.Conv1d] | type[nn.Conv2d]
    transposed: type[nn.ConvTranspose1d] | type[nn.ConvTranspose2d]
    dropout: type[nn.Dropout1d] | type[nn.Dropout2d]


CONV_LAYERS = {
    1: ConvLayers(nn.Conv1d, nn.ConvTranspose1d, nn.Dropout1d),
    2: ConvLayers(nn.Conv2d, nn.ConvTranspose2d, nn.Dropout2d),
}


@dataclass(kw_only=True)
class Convolutional(Kind):
    """Convolutions of stride 2 that halve a signal or image per stage, then one dense layer.

    Any height, width, length and number of channels is supported; a row of a table is read as a
    signal. Each stage of the decoder restores the exact size of its mirror in the encoder. With
    `skip`, a parallel linear path lets the network start at the PCA solution.

    Example:
        >>> import torch
        >>> from isthmus.kinds import Convolutional
        >>> from isthmus.types import Facts
        >>> network = Convolutional(channels=(4, 8)).build(Facts(shape=(1, 9, 7)), 3)
        >>> network(torch.zeros(2, 1, 9, 7)).reconstruction.shape
        torch.Size([2, 1, 9, 7])
    """

    channels: tuple[int, ...] | None = None
    """Feature maps per stage. None begins with 32 for images and 16 for signals and doubles them
    twice; stages are added while the shortest side is at least 4."""

    kernel_size: int = 3
    """Width of the filters: 1, 3, 5, ..."""

    skip: bool = True
    """Whether there is a linear path parallel to the convolutions."""

    memory_format: str = "auto"
    """The memory layout of the feature maps of images: "channels_last", "contiguous", or "auto",
    which is channels_last on a CPU, where it is faster."""

    @property
    def starts_linear(self) -> bool:
        """Whether the network has a linear path that can start at the PCA solution."""
        return self.skip

    def resolved(self, facts: Facts, n_components: int) -> Self:
        """A copy whose feature maps per stage are chosen for the rows."""
        del n_components
        return replace(self, channels=self._channels(facts))

    def device_settings(self, device: torch.device, facts: Facts) -> dict[str, str]:
        """The memory layout of the feature maps of images."""
        if len(facts.shape) + 1 != IMAGES:
            return {}
        last = is_channels_last(self.memory_format, device)
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
            f"kernel_size={self.kernel_size} must be a positive, uneven number",
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
        if self.channels is not None:
            return self.channels
        return default_channels(_with_channels(facts.shape)[1:])


def _with_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(C, *sides): a row of a table is a signal of one channel."""
    return shape if len(shape) > 1 else (1, *shape)


def default_channels(sides: Sequence[int]) -> tuple[int, ...]:
    """Feature maps per stage: 32, 64, 128, 128, ... while the shortest side is at least 4.

    Signals have half as many, since their stages halve only one side.
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
    """(B, *shape) to (B, K): one convolution of stride 2 per stage, then a dense layer."""

    def __init__(
        self, shape: Sequence[int], channels: Sequence[int], n_components: int, spec: Convolutional
    ) -> None:
        super().__init__()
        layers = CONV_LAYERS[len(shape) - 1]
        self.shape, self.memory_format = tuple(shape), spec.memory_format
        self.sizes = [
            tuple(_halved(side, stage) for side in shape[1:]) for stage in range(len(channels) + 1)
        ]
        self.activation = activation(spec.activation)
        self.dropout = layers.dropout(spec.dropout)
        self.convolutions = nn.ModuleList(
            layers.convolution(
                before, after, spec.kernel_size, stride=2, padding=spec.kernel_size // 2
            )
            for before, after in zip((shape[0], *channels[:-1]), channels, strict=True)
        )
        self.dense = nn.Linear(channels[-1] * _volume(self.sizes[-1]), n_components)

    @property
    def depth(self) -> int:
        """The number of stages plus 1 for the dense layer."""
        return len(self.convolutions) + 1

    def affine(self, i: int) -> nn.Module:
        """A convolution, or for the last i the dense layer."""
        return self.convolutions[i] if i < len(self.convolutions) else self.dense

    def n_positions(self, i: int) -> int:
        """The positions of the output maps of a convolution."""
        return _volume(self.sizes[i + 1]) if i < len(self.convolutions) else 1

    def layer(self, i: int, x: Tensor) -> Tensor:
        """(B, channels, *sizes[i]) to those of stage i + 1, at the end to (B, K)."""
        if i == 0:
            x = _in_layout(x.reshape(-1, *self.shape), self.memory_format)
        return super().layer(i, x if i < len(self.convolutions) else x.flatten(1))


class ConvDecoder(Stack):
    """(B, K) to (B, C, *sides): the encoder's stages mirrored, each with the exact size."""

    def __init__(
        self,
        sizes: Sequence[tuple[int, ...]],
        channels: Sequence[int],
        n_components: int,
        spec: Convolutional,
    ) -> None:
        super().__init__()
        layers = CONV_LAYERS[len(sizes[0])]
        self.start, self.memory_format = (channels[-1], *sizes[-1]), spec.memory_format
        self.activation = activation(spec.activation)
        self.dropout = layers.dropout(spec.dropout)
        self.dense = nn.Linear(n_components, channels[-1] * _volume(sizes[-1]))
        self.sizes = list(reversed(sizes[:-1]))
        self.convolutions = nn.ModuleList(
            layers.transposed(
                after, before, spec.kernel_size, stride=2, padding=spec.kernel_size // 2
            )
            for before, after in reversed(list(pairwise(channels)))
        )

    @property
    def depth(self) -> int:
        """The number of stages plus 1 for the dense layer."""
        return len(self.convolutions) + 1

    def affine(self, i: int) -> nn.Module:
        """The dense layer, then the transposed convolutions."""
        return self.convolutions[i - 1] if i else self.dense

    def n_positions(self, i: int) -> int:
        """The positions of the input maps of a transposed convolution."""
        sizes = [self.start[1:], *self.sizes]
        return _volume(sizes[i - 1]) if i else 1

    def layer(self, i: int, x: Tensor) -> Tensor:
        """(B, K) to (B, channels, *smallest size), then stage by stage to the size of a row."""
        if i == 0:
            return _in_layout(super().layer(i, x).reshape(-1, *self.start), self.memory_format)
        maps: Tensor = self.convolutions[i - 1](x, output_size=self.sizes[i - 1])
        return maps.contiguous() if i == len(self.convolutions) else maps


def is_channels_last(memory_format: str, device: torch.device) -> bool:
    """Whether feature maps are stored in channels_last layout on the device."""
    return memory_format == CHANNELS_LAST or (memory_format == "auto" and device.type == "cpu")


def _in_layout(x: Tensor, memory_format: str) -> Tensor:
    """Feature maps in the memory layout of `memory_format`, which convolutions then keep."""
    if x.ndim != IMAGES or not is_channels_last(memory_format, x.device):
        return x
    if x.shape[1] == 1:
        # With one map both layouts are the same memory, and torch keeps the strides. With those of
        # the other layout, the gradient of the first layer takes seven times as long.
        return x.squeeze(1).contiguous().unsqueeze(3).permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)


def _volume(size: Sequence[int]) -> int:
    volume = 1
    for side in size:
        volume *= side
    return volume
