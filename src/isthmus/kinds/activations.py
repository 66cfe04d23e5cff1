"""The activations: one record each, with everything that kinds, penalties and engines need."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus._compat import aten
from isthmus.errors import RequestError, require

_aten = aten()

IS_ACTIVATION = "is_isthmus_activation"
"""The attribute that marks the modules that `activation` returns."""

NEAR, NEARLY = 3.0, 0.03
"""The codes for which an operating point must be nearly linear, and how nearly."""


class OperatingPoint(NamedTuple):
    """Where an activation is nearly linear: act(gain * z + offset) = rise * z + level.

    Example:
        >>> from isthmus.kinds import ACTIVATIONS
        >>> ACTIVATIONS["relu"].operating_point
        OperatingPoint(gain=1.0, offset=6.0, rise=1.0, level=6.0)
    """

    gain: float
    offset: float
    rise: float
    level: float

    def widened(self, spread: float) -> "OperatingPoint":
        """The same for codes `spread` times as wide, for activations that are linear far out."""
        spread = max(spread, 1.0)
        return self._replace(offset=self.offset * spread, level=self.level * spread)


class InPlace(NamedTuple):
    """An activation a = act(z) as two operations that allocate nothing.

    Example:
        >>> import torch
        >>> from isthmus.kinds import ACTIVATIONS
        >>> a = torch.empty(2)
        >>> ACTIVATIONS["relu"].in_place.forward(torch.tensor([-1.0, 2.0]), out=a)
        tensor([0., 2.])
    """

    forward: Callable[..., object]
    """(z, out=a): write act(z) into a."""

    backward: Callable[..., object]
    """(grad, saved, grad_input=grad): multiply the gradient by act'(z)."""

    saves_output: bool = False
    """Whether `saved` is a; otherwise it is z."""


@dataclass(frozen=True, kw_only=True)
class Activation:
    """An activation function and what is known about it; only `module` is required.

    Whatever is missing is not used: without `in_place` or `kernel_code` a network is trained by
    autograd, without `derivative` the contraction penalty is estimated, and without
    `operating_point` a code with this activation cannot start at PCA. Derivatives must be exact:
    fast engines and autograd give the same gradients.

    Attributes:
        module: Makes the activation as a fresh `nn.Module`.
        derivative: act'(z), elementwise.
        second_derivative: act''(z), elementwise.
        operating_point: Where act is nearly linear for |z| <= 3, which holds nearly all of a
            whitened code: act(gain * z + offset) is within 0.03 * rise of rise * z + level.
        code_range: The interval (low, high) of act, if it is bounded on both sides.
        in_place: Forward and backward operations that write into existing memory.
        keeps_zero: Whether act(0) = 0, so that zero padding stays zero.
        kernel_code: The activation's number in the C kernel (`training/engines/cpu/native/`).

    Example:
        >>> from torch import nn
        >>> from isthmus.kinds import ACTIVATIONS, Activation, Multilayer
        >>> from isthmus.types import Facts
        >>> ACTIVATIONS["mish"] = Activation(module=nn.Mish, keeps_zero=True)
        >>> Multilayer(activation="mish").build(Facts(shape=(8,)), 2).encoder.activation
        Mish()
        >>> del ACTIVATIONS["mish"]
    """

    module: Callable[[], nn.Module]
    derivative: Callable[[Tensor], Tensor] | None = None
    second_derivative: Callable[[Tensor], Tensor] | None = None
    operating_point: OperatingPoint | None = None
    code_range: tuple[float, float] | None = None
    in_place: InPlace | None = None
    keeps_zero: bool = False
    kernel_code: int | None = None

    def can_start_linear(self, *, tied: bool) -> bool:
        """Whether a code with this activation can start at PCA.

        A tied weight needs an activation that is linear far out.
        """
        return self.operating_point is not None and not (tied and self.code_range is not None)


def activation(name: str) -> nn.Module:
    """A fresh module of the activation of this name.

    Raises RequestError for an unknown name, and for one whose record contradicts its module.
    """
    if name not in ACTIVATIONS:
        raise RequestError(f"activation={name!r} is not known; use one of {', '.join(ACTIVATIONS)}")
    record = ACTIVATIONS[name]
    if not any(record is other for other in _CHECKED):
        check_activation(name)
        _CHECKED.append(record)
    module = record.module()
    setattr(module, IS_ACTIVATION, True)
    return module


def check_activation(name: str) -> None:
    """Raise RequestError if the record of an activation contradicts its module.

    Derivatives and in-place operations are compared with autograd in double precision.

    Example:
        >>> from torch import nn
        >>> from isthmus.kinds import ACTIVATIONS, Activation, check_activation
        >>> ACTIVATIONS["half"] = Activation(module=nn.ReLU, derivative=lambda z: z * 0 + 0.5)
        >>> check_activation("half")
        Traceback (most recent call last):
            ...
        isthmus.errors.RequestError: ACTIVATIONS['half']: derivative differs from autograd's
        >>> del ACTIVATIONS["half"]
    """
    record = ACTIVATIONS[name]
    module = record.module()
    weights = [*module.parameters()]
    require(not weights, f"ACTIVATIONS[{name!r}]: the module has weights; build it in a kind")
    z = (torch.linspace(-6, 6, 101, dtype=torch.float64) + 0.013).requires_grad_()
    with torch.enable_grad():
        a = module(z)
        (first,) = torch.autograd.grad(a.sum(), z, create_graph=True)
        second = torch.zeros_like(z)
        if first.requires_grad:
            (second,) = torch.autograd.grad(
                first.sum(), z, allow_unused=True, materialize_grads=True
            )
    values = [tensor.detach() for tensor in (z, a, first, second)]
    with torch.no_grad():
        for fault in (*_derivative_faults(record, *values), *_value_faults(record, *values[:2])):
            raise RequestError(f"ACTIVATIONS[{name!r}]: {fault}")


def _agree(result: Tensor, expected: Tensor) -> bool:
    return torch.allclose(result, expected, rtol=1e-6, atol=1e-9)


def _derivative_faults(
    record: Activation, z: Tensor, a: Tensor, first: Tensor, second: Tensor
) -> Iterator[str]:
    """What is wrong with the derivatives of act at z, compared with those of autograd."""
    if record.derivative is not None and not _agree(record.derivative(z), first):
        yield "derivative differs from autograd's"
    if record.second_derivative is not None and not _agree(record.second_derivative(z), second):
        yield "second_derivative differs from autograd's"
    if record.in_place is not None:
        out, grad = torch.empty_like(z), torch.ones_like(z)
        record.in_place.forward(z, out=out)
        record.in_place.backward(grad, out if record.in_place.saves_output else z, grad_input=grad)
        if not (_agree(out, a) and _agree(grad, first)):
            yield "in_place differs from the module and its derivative"


def _value_faults(record: Activation, z: Tensor, a: Tensor) -> Iterator[str]:
    """What is wrong with the other statements on act, which has the values a at z."""
    module, interval, point = record.module(), record.code_range, record.operating_point
    if record.keeps_zero and module(torch.zeros(())) != 0:
        yield "keeps_zero is set, but act(0) is not 0"
    if interval is not None and not bool(((a >= interval[0]) & (a <= interval[1])).all()):
        yield f"act leaves its code_range {interval}"
    if point is not None:
        near = z[z.abs() <= NEAR]
        error = module(point.gain * near + point.offset) - point.rise * near - point.level
        if not bool(error.abs().max() <= NEARLY * abs(point.rise)):
            yield "act is not nearly linear at its operating_point"
    if record.kernel_code is not None:
        same = [other for other in BUILT_IN if other.kernel_code == record.kernel_code]
        if not same or not _agree(same[0].module()(z), a):
            yield "kernel_code is not the kernel's number of this activation; leave it out"


def can_start_linear(name: str, *, tied: bool) -> bool:
    """See `Activation.can_start_linear`; an unknown name is reported when the network is built."""
    return name not in ACTIVATIONS or ACTIVATIONS[name].can_start_linear(tied=tied)


def _relu_backward(grad: Tensor, a: Tensor, *, grad_input: Tensor) -> object:
    return _aten.threshold_backward.grad_input(grad, a, 0, grad_input=grad_input)


def _softplus_backward(grad: Tensor, z: Tensor, *, grad_input: Tensor) -> object:
    return _aten.softplus_backward.grad_input(grad, z, 1, 20, grad_input=grad_input)


def _elu_backward(grad: Tensor, z: Tensor, *, grad_input: Tensor) -> object:
    return _aten.elu_backward.grad_input(grad, 1, 1, 1, False, z, grad_input=grad_input)


def _sigmoid_derivative(z: Tensor) -> Tensor:
    value = torch.sigmoid(z)
    return value * (1 - value)


def _sigmoid_second(z: Tensor) -> Tensor:
    value = torch.sigmoid(z)
    return value * (1 - value) * (1 - 2 * value)


def _tanh_second(z: Tensor) -> Tensor:
    value = torch.tanh(z)
    return -2 * value * (1 - value.square())


def _silu_second(z: Tensor) -> Tensor:
    value = torch.sigmoid(z)
    return value * (1 - value) * (2 + z * (1 - 2 * value))


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(
        module=nn.Identity,
        derivative=torch.ones_like,
        second_derivative=torch.zeros_like,
        operating_point=OperatingPoint(1.0, 0.0, 1.0, 0.0),
        keeps_zero=True,
        kernel_code=0,
    ),
    "silu": Activation(
        module=nn.SiLU,
        derivative=lambda z: torch.sigmoid(z) * (1 + z * (1 - torch.sigmoid(z))),
        second_derivative=_silu_second,
        operating_point=OperatingPoint(1.0, 12.0, 1.0, 12.0),
        in_place=InPlace(_aten.silu.out, _aten.silu_backward.grad_input),
        keeps_zero=True,
        kernel_code=1,
    ),
    "relu": Activation(
        module=nn.ReLU,
        derivative=lambda z: (z > 0).to(z.dtype),
        second_derivative=torch.zeros_like,
        operating_point=OperatingPoint(1.0, 6.0, 1.0, 6.0),
        in_place=InPlace(_aten.relu.out, _relu_backward, saves_output=True),
        keeps_zero=True,
        kernel_code=2,
    ),
    "gelu": Activation(
        module=nn.GELU,
        operating_point=OperatingPoint(1.0, 9.0, 1.0, 9.0),
        in_place=InPlace(_aten.gelu.out, _aten.gelu_backward.grad_input),
        keeps_zero=True,
        kernel_code=3,
    ),
    "tanh": Activation(
        module=nn.Tanh,
        derivative=lambda z: 1 - torch.tanh(z).square(),
        second_derivative=_tanh_second,
        operating_point=OperatingPoint(0.03, 0.0, 0.03, 0.0),
        code_range=(-1.0, 1.0),
        in_place=InPlace(torch.tanh, _aten.tanh_backward.grad_input, saves_output=True),
        keeps_zero=True,
        kernel_code=4,
    ),
    "sigmoid": Activation(
        module=nn.Sigmoid,
        derivative=_sigmoid_derivative,
        second_derivative=_sigmoid_second,
        operating_point=OperatingPoint(0.1, 0.0, 0.025, 0.5),
        code_range=(0.0, 1.0),
        in_place=InPlace(torch.sigmoid, _aten.sigmoid_backward.grad_input, saves_output=True),
        kernel_code=5,
    ),
    "softplus": Activation(
        module=nn.Softplus,
        derivative=torch.sigmoid,
        second_derivative=_sigmoid_derivative,
        operating_point=OperatingPoint(1.0, 12.0, 1.0, 12.0),
        in_place=InPlace(_aten.softplus.out, _softplus_backward),
        kernel_code=6,
    ),
    "elu": Activation(
        module=nn.ELU,
        derivative=lambda z: torch.where(z > 0, torch.ones_like(z), functional.elu(z) + 1),
        second_derivative=lambda z: torch.where(z > 0, torch.zeros_like(z), functional.elu(z) + 1),
        operating_point=OperatingPoint(1.0, 6.0, 1.0, 6.0),
        in_place=InPlace(_aten.elu.out, _elu_backward),
        keeps_zero=True,
        kernel_code=7,
    ),
}
"""Activations by name; add your own before the first fit that uses it."""

BUILT_IN = tuple(ACTIVATIONS.values())
"""The activations of this package."""

_CHECKED = [*BUILT_IN]
