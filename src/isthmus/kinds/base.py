"""Kind, the settings of an autoencoder, and CodeNetwork, the network that it builds."""

# Shape letters: B rows in a batch, D features, K code units.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.counts import log_counts
from isthmus.errors import RequestError, require, setting
from isthmus.kinds.activations import ACTIVATIONS, activation
from isthmus.kinds.blocks import Bounded, Clipped, Stack, output_layer
from isthmus.missing import filled
from isthmus.spec import Spec
from isthmus.types import DenseEncoder, Facts, Network, Output

Link = tuple[float | Tensor, float | Tensor]
"""The slope and offset of the line from data to the loss's raw output: one number, or (D,)."""


class LinearPath(nn.Module):
    """The linear part of encoder and decoder: h = W x + b and r = V h + c.

    Example:
        >>> import torch
        >>> from isthmus.kinds import LinearPath
        >>> LinearPath(5, 2).encode(torch.zeros(3, 5)).shape
        torch.Size([3, 2])
    """

    def __init__(self, n_features: int, n_components: int, *, tied: bool = False) -> None:
        super().__init__()
        self.encode_weight = nn.Parameter(torch.empty(n_components, n_features))
        self.encode_bias = nn.Parameter(torch.zeros(n_components))
        self.decode_bias = nn.Parameter(torch.zeros(n_features))
        nn.init.kaiming_uniform_(self.encode_weight, a=5**0.5)
        # Stored as (K, D) like the encoder's weight, so that both are read in memory order.
        self.decode_weight = None if tied else nn.Parameter(torch.empty(n_components, n_features))
        if self.decode_weight is not None:
            nn.init.normal_(self.decode_weight, std=n_components**-0.5)

    @property
    def tied(self) -> bool:
        """Whether the decoder uses the encoder's weight."""
        return self.decode_weight is None

    @torch.no_grad()
    def reset(self) -> None:
        """Set the reconstruction of every unit to about zero, with a gradient for each."""
        # Zero weights on both sides would be a saddle point without a gradient.
        if self.decode_weight is None:
            self.encode_weight.mul_(1e-3)
        else:
            self.decode_weight.zero_()

    def encode(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, K)."""
        return functional.linear(x.flatten(1), self.encode_weight, self.encode_bias)

    def decode(self, code: Tensor) -> Tensor:
        """(B, K) to (B, D)."""
        weight = self.encode_weight if self.decode_weight is None else self.decode_weight
        return functional.linear(code, weight.t(), self.decode_bias)


class CodeNetwork(Network):
    """An encoder and a decoder, each the sum of a linear and a nonlinear path; one may be absent.

    code h = act(linear.encode(x) + encoder(x)),
    reconstruction r = output(linear.decode(h) + decoder(h)).

    Parameters:
        facts: The rows that the network is built for.
        encoder: The nonlinear path from rows to codes.
        decoder: The nonlinear path back.
        linear: The linear path in both directions.
        code_activation: The activation of the code; one of `kinds.ACTIVATIONS`.
        output: See `Kind.output`.
        gated: Whether a learned factor, initially 0, multiplies the nonlinear paths.
        code_dropout: The share of code units dropped in training, in [0, 1).

    Example:
        >>> import torch
        >>> from isthmus.kinds import Multilayer
        >>> from isthmus.types import Facts
        >>> network = Multilayer(hidden=(8,)).build(Facts(shape=(5,)), n_components=2)
        >>> output = network(torch.zeros(3, 5))
        >>> output.code.shape, output.reconstruction.shape
        (torch.Size([3, 2]), torch.Size([3, 5]))
    """

    def __init__(
        self,
        facts: Facts,
        *,
        encoder: Stack | None = None,
        decoder: Stack | None = None,
        linear: LinearPath | None = None,
        code_activation: str = "linear",
        output: str = "auto",
        gated: bool = False,
        code_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require(
            output in ("auto", "linear", "bounded"),
            f"output={output!r} is not known; use 'auto', 'linear' or 'bounded'",
        )
        self.facts = facts
        self.encoder, self.decoder, self.linear = encoder, decoder, linear
        self.code_activation_name = code_activation
        self.code_activation = activation(code_activation)
        self.output = output_layer(output, facts)
        # If the code is the only hidden layer, dropout is applied to it before the decoder.
        self.code_dropout = nn.Dropout(code_dropout)
        # Tied stacks have no last layer to set to zero: it is the first layer of the other.
        self.gate = nn.Parameter(torch.zeros(())) if gated else None
        self.counts = log_counts(facts)
        self.fill_value = (
            nn.Parameter(torch.zeros(facts.n_features)) if facts.allow_missing else None
        )
        if linear is not None:
            self.zero_nonlinear()

    @property
    def multiply_adds(self) -> int:
        """About how many multiply-adds encoding and decoding a row takes."""
        paths = [stack.multiply_adds for stack in (self.encoder, self.decoder) if stack is not None]
        linear = () if self.linear is None else self.linear.parameters()
        return sum(paths) + sum(weight.numel() for weight in linear if weight.ndim > 1)

    @property
    def decodes_linearly(self) -> bool:
        """Whether the raw output is a linear function of the code."""
        return self.decoder is None and type(self).decode is CodeNetwork.decode

    @property
    def code_range(self) -> tuple[float, float] | None:
        """The interval of every code unit, or None if it is unbounded."""
        return ACTIVATIONS[self.code_activation_name].code_range

    def encode(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, K)."""
        return self.code_activation(self.before_code(x))  # type: ignore[no-any-return]

    @torch.no_grad()
    def set_fill_value(self, values: Tensor | float) -> None:
        """Initialize the fill values of missing values, by one number or (D,)."""
        if self.fill_value is not None:
            self.fill_value.copy_(torch.as_tensor(values))

    def fill_missing(self, x: Tensor) -> Tensor:
        """(B, *shape) with missing values replaced by learned ones, and counts by logarithms."""
        if self.counts is not None:
            return self.counts(x, self.fill_value)  # type: ignore[no-any-return]
        if self.fill_value is None:
            return x
        return filled(x, self.fill_value.reshape(self.facts.shape))

    def before_code(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, K): the code before its activation."""
        x = self.fill_missing(x)
        if self.encoder is None:
            assert self.linear is not None
            return self.linear.encode(x)
        code: Tensor = self.encoder(x)
        code = code if self.gate is None else self.gate * code
        return code if self.linear is None else code + self.linear.encode(x)

    def decode(self, code: Tensor) -> Tensor:
        """(B, K) to (B, *shape)."""
        if self.decoder is None:
            assert self.linear is not None
            raw = self.linear.decode(code)
        else:
            raw = self.decoder(code).flatten(1)
            raw = raw if self.gate is None else self.gate * raw
            raw = raw if self.linear is None else raw + self.linear.decode(code)
        return self.clamp_output(raw.reshape(-1, *self.facts.shape))

    def clamp_output(self, x: Tensor) -> Tensor:
        """(B, *shape) after the output activation, if there is one."""
        return x if self.output is None else self.output(x)

    def forward(self, x: Tensor) -> Output:
        """Encode and decode (B, *shape)."""
        code = self.encode(x)
        return Output(self.decode(self.code_dropout(code)), code)

    def zero_nonlinear(self) -> None:
        """Set the output of the nonlinear paths to zero; their gradients are not zero."""
        for stack in (self.encoder, self.decoder):
            if stack is not None and self.gate is None:
                stack.zero_last()
        if self.gate is not None:
            nn.init.zeros_(self.gate)

    @torch.no_grad()
    def reset_nonlinear(self) -> None:
        """Set the linear path to zero, and draw the last layers of the nonlinear paths again.

        Gradients reach the linear path through the nonlinear ones.
        """
        if self.gate is not None:
            nn.init.ones_(self.gate)
        if self.linear is None:
            return
        for parameter in self.linear.parameters():
            parameter.zero_()
        for stack in (self.encoder, self.decoder):
            if stack is not None and self.gate is None:
                last = stack.affine(stack.depth - 1)
                assert isinstance(last, nn.Linear | nn.modules.conv._ConvNd)
                last.reset_parameters()

    def dense_encoder(self) -> DenseEncoder | None:
        """The encoder, if it is one dense layer whose activation has a known derivative."""
        derivative = ACTIVATIONS[self.code_activation_name].derivative
        if self.encoder is not None or self.linear is None or derivative is None:
            return None
        return DenseEncoder(self.linear.encode_weight, derivative)

    @torch.no_grad()
    def start_linear(self, components: Tensor, scales: Tensor, mean: Tensor, link: Link) -> None:
        """Set the linear path to the projection on `components`, codes whitened by `scales`.

        A tied path keeps unwhitened codes, since one weight cannot both divide and multiply by the
        scales. Its code activation must be linear far out (see `Activation.can_start_linear`).

        Parameters:
            components: (k, D) with orthonormal rows. If k is below the code size, the other units
                are reset.
            scales: (k,) standard deviations along the components.
            mean: (D,) mean of the rows.
            link: (slope, offset) from data to the raw output of the loss.

        Raises:
            RequestError: The network has no linear path, or its activation no operating point.
        """
        path = self.linear
        require(
            path is not None, "this network has no linear path to start from PCA; use skip=True"
        )
        assert path is not None
        point = ACTIVATIONS[self.code_activation_name].operating_point
        require(
            point is not None,
            f"the activation {self.code_activation_name!r} has no operating point to start from "
            f"PCA; use {setting('pretraining', 'random')}",
        )
        assert point is not None
        slope, offset = _compose([torch.as_tensor(part).to(mean) for part in link], self.output)
        if path.tied:
            weight = back = slope**0.5 * components
            point = point.widened(float(slope.max() ** 0.5 * scales.max()) if len(scales) else 1.0)
        else:
            weight = point.gain * components / scales[:, None]
            back = slope * components * scales[:, None] / point.rise
        path.reset()
        path.encode_weight[: len(weight)] = weight
        path.encode_bias.fill_(point.offset)
        path.encode_bias[: len(weight)] -= weight @ mean
        if path.decode_weight is not None:
            path.decode_weight[: len(back)] = back
        path.decode_bias.copy_(slope * mean + offset - point.level * back.sum(dim=0))


def _compose(link: Sequence[Tensor], output: Bounded | Clipped | None) -> tuple[Tensor, Tensor]:
    if output is None:
        return link[0], link[1]
    slope, offset = output.linearised()
    return slope * link[0], slope * link[1] + offset


class KindDefaults(NamedTuple):
    """The penalties and the corruption that a kind adds, as registered names with settings.

    Example:
        >>> from isthmus.kinds import Regularized
        >>> Regularized(sparsity=0.01).defaults().penalties
        (('l1', {'weight': 0.01}),)
    """

    penalties: tuple[tuple[str, Mapping[str, float]], ...] = ()
    corruption: tuple[str, Mapping[str, float]] | None = None


@dataclass(kw_only=True)
class Kind(Spec):
    """Base of the kinds of autoencoder: settings, of which `build` makes the network.

    A subclass is a dataclass with a docstring under each setting; it implements `build`.

    Example:
        >>> from dataclasses import dataclass
        >>> from isthmus.kinds import CodeNetwork, Kind, LinearPath
        >>> from isthmus.types import Facts
        >>> @dataclass(kw_only=True)
        ... class Linear(Kind):
        ...     def build(self, facts, n_components):
        ...         return CodeNetwork(facts, linear=LinearPath(facts.n_features, n_components))
        >>> Linear().build(Facts(shape=(5,)), 2).multiply_adds
        20
    """

    activation: str = "silu"
    """The activation between layers; one of `kinds.ACTIVATIONS`."""

    dropout: float = 0.0
    """The share of hidden units dropped in training, in [0, 1)."""

    output: str = "auto"
    """The output activation: "linear", "bounded", a sigmoid over the range of all training values,
    or "auto", which clips a feature at an end of its range that its training values reach often,
    such as black and white pixels, zero counts and the ends of a rating scale."""

    @property
    def overcomplete(self) -> bool:
        """Whether the code may be wider than the input."""
        return False

    @property
    def starts_linear(self) -> bool:
        """Whether the network has a linear path that can start at the PCA solution."""
        return True

    def device_settings(self, device: torch.device, facts: Facts) -> dict[str, str]:
        """The settings that are chosen by the device, for the facts of a fit."""
        del device, facts
        return {}

    def resolved(self, facts: Facts, n_components: int) -> Self:
        """A copy whose layer sizes are chosen for the rows."""
        del facts, n_components
        return self

    def build(self, facts: Facts, n_components: int) -> CodeNetwork:
        """The network for rows of `facts.shape`, weights drawn from torch's global generator."""
        raise NotImplementedError

    def defaults(self) -> KindDefaults:
        """The penalties and the corruption that this kind adds."""
        return KindDefaults()

    def check_width(self, facts: Facts, n_components: int) -> None:
        """Raise RequestError unless the code size suits the rows."""
        if not isinstance(n_components, Integral) or n_components < 1:
            raise RequestError(f"n_components={n_components!r} must be a whole number >= 1")
        if n_components > facts.n_features and not self.overcomplete:
            raise RequestError(
                f"n_components={n_components} is more than the {facts.n_features} features of a "
                "row; choose fewer, or kind='regularized', whose code may be wider than its input"
            )
