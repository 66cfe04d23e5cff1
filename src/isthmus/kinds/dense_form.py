"""The structure of a network of dense layers, for engines with hand-derived gradients."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from isthmus.kinds.activations import ACTIVATIONS, Activation
from isthmus.kinds.base import CodeNetwork, LinearPath
from isthmus.kinds.blocks import Clipped, Dense, Stack


class DenseForm(NamedTuple):
    """The layers and activations of a CodeNetwork of untied dense layers.

    Example:
        >>> from isthmus.kinds import DenseForm, Multilayer
        >>> from isthmus.types import Facts
        >>> form = DenseForm.of(Multilayer(hidden=(8,)).build(Facts(shape=(5,)), 2))
        >>> form.activation, len(form.encoder), form.n_features
        ('silu', 2, 5)
    """

    encoder: tuple[nn.Linear, ...]
    """The layers of the nonlinear path, () without one."""

    decoder: tuple[nn.Linear, ...]
    linear: LinearPath | None
    activation: str
    """The activation between layers."""

    code_activation: str
    dropout: float
    """The dropout between layers."""

    code_dropout: float
    """The dropout of the code before the decoder."""

    limit: Clipped | None
    """The output activation."""

    fill_value: nn.Parameter | None
    """(D,): the fill values of missing values; None without missing values."""

    @property
    def activations(self) -> tuple[Activation, Activation]:
        """The records of `activation` and `code_activation`."""
        return ACTIVATIONS[self.activation], ACTIVATIONS[self.code_activation]

    @property
    def n_features(self) -> int:
        """The number of features of a row."""
        return len(self.decoder[-1].bias if self.linear is None else self.linear.decode_bias)

    def ends(self, like: Tensor) -> Tensor:
        """(2, D): the lower and upper bounds of a clipped output, on the device of `like`."""
        assert self.limit is not None
        bounds = [self.limit.get_buffer(name).flatten().to(like) for name in ("floor", "ceiling")]
        return torch.stack([end.expand(self.n_features) for end in bounds])

    @classmethod
    def of(cls, network: nn.Module) -> "DenseForm | None":
        """The form of a network; None if it is not made of plain dense layers.

        All hidden layers must have one activation and one rate of dropout.
        """
        if type(network) is not CodeNetwork or not all(map(is_plain, network.modules())):
            return None
        has_code = has_in_place(network.code_activation_name, network.code_activation)
        if not has_code or network.gate is not None or network.counts is not None:
            return None
        limit, path = network.output, network.linear
        is_tied = path is not None and path.tied
        if not isinstance(limit, Clipped | None) or is_tied or not trains_apart(network):
            return None
        encoder, decoder = layers_of(network.encoder), layers_of(network.decoder)
        stacks = [stack for stack in (network.encoder, network.decoder) if isinstance(stack, Dense)]
        between = {(stack.activation_name, rate_of(stack.dropout)) for stack in stacks}
        if encoder is None or decoder is None or len(between) > 1:
            return None
        name, dropout = between.pop() if between else ("linear", 0.0)
        return cls(
            encoder=encoder,
            decoder=decoder,
            linear=path,
            activation=name,
            code_activation=network.code_activation_name,
            dropout=dropout,
            code_dropout=rate_of(network.code_dropout),
            limit=limit,
            fill_value=network.fill_value,
        )


def is_plain(module: nn.Module) -> bool:
    """Whether a module has no methods of its own and no hooks."""
    overrides = any(callable(v) and hasattr(type(module), k) for k, v in vars(module).items())
    return not (overrides or module._forward_hooks or module._forward_pre_hooks)


def trains_apart(network: nn.Module) -> bool:
    """Whether every weight is trained and belongs to one layer."""
    names = [*network.named_parameters(remove_duplicate=False)]
    parameters = [*network.parameters()]
    return len(names) == len(parameters) and all(p.requires_grad for p in parameters)


def has_in_place(name: str, module: nn.Module) -> bool:
    """Whether a module is the registered activation of this name, and has in-place operations."""
    activation = ACTIVATIONS.get(name)
    if activation is None or type(module) is not type(activation.module()):
        return False
    return name == "linear" or activation.in_place is not None


def rate_of(dropout: nn.Module) -> float:
    """The rate of a dropout layer."""
    assert isinstance(dropout, nn.Dropout)
    return dropout.p


def layers_of(stack: Stack | None) -> tuple[nn.Linear, ...] | None:
    """The linear layers of a stack, () without a stack, None if it has other layers."""
    if stack is None:
        return ()
    if type(stack) is not Dense or not has_in_place(stack.activation_name, stack.activation):
        return None
    layers = [stack.affine(i) for i in range(stack.depth)]
    plain = tuple(layer for layer in layers if type(layer) is nn.Linear and layer.bias is not None)
    return plain if len(plain) == len(layers) else None
