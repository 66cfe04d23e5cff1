"""The curvature of a loss in each linear layer, recorded while a closure runs."""

# B rows in a batch, D features, I inputs of a layer (with one for its bias), O outputs.

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from isthmus.types import HasCurvature


@dataclass(frozen=True, kw_only=True)
class LinearParameters:
    """The parameters of one linear layer, as a single (O, I) matrix."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    transposed: bool
    """Whether the weight is stored as (inputs, outputs)."""

    def matrix(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(O, I): weight and bias side by side, the bias as the weight of an input of 1."""
        weight = weight.t() if self.transposed else weight
        return weight if bias is None else torch.cat([weight, bias[:, None]], dim=1)

    @property
    def gradient(self) -> Tensor:
        """(O, I): the gradient of the last backward pass, or zero if it left none."""
        return self.matrix(
            _gradient(self.weight), self.bias if self.bias is None else _gradient(self.bias)
        )

    @property
    def decaying(self) -> Tensor:
        """(O, I): the weight, and zero for the bias."""
        return self.matrix(
            self.weight, self.bias if self.bias is None else torch.zeros_like(self.bias)
        )

    def add(self, update: Tensor) -> None:
        """Add an (O, I) update to the parameters, in place."""
        if self.bias is not None:
            self.bias.add_(update[:, -1])
            update = update[:, :-1]
        self.weight.add_(update.t() if self.transposed else update)


@dataclass(frozen=True, kw_only=True)
class LayerCall:
    """One linear layer in one forward pass."""

    layer: LinearParameters
    inputs: Tensor
    """(B, I)"""

    outputs: Tensor
    """(B, O)"""


class Curvature:
    """Kronecker factors and Fisher products of one batch, by double backward."""

    def __init__(
        self, calls: Sequence[LayerCall], raw: Tensor, loss: HasCurvature, seed: int
    ) -> None:
        # The loss of a row is the mean over its D features, so its Fisher is divided by D.
        fisher = loss.curvature(_detached(raw)) / raw[0].numel()
        self.root, self.rows = fisher.sqrt(), len(raw)
        # Any noise of mean 0 and this variance has the second moments of sampled targets; signs
        # have the least variance of their squares.
        generator = torch.Generator(raw.device).manual_seed(seed)
        signs = torch.randint(0, 2, raw.shape, generator=generator, device=raw.device) * 2 - 1
        self.draw = (self.root * signs).to(raw.dtype).requires_grad_()
        outputs = [call.outputs for call in calls]
        grads = torch.autograd.grad(raw, outputs, self.draw, create_graph=True, allow_unused=True)
        # The gradients are linear in `draw`; their derivative by it is that of the network.
        used = [(call, g) for call, g in zip(calls, grads, strict=True) if g is not None]
        self.layers = [call.layer for call, _ in used]
        self.inputs = [call.inputs for call, _ in used]
        self.gradients = [g for _, g in used]

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """For each layer (I, I) E[a a'] of its inputs and (O, O) E[g g'] of its output gradients.

        Their Kronecker product approximates the Fisher matrix of the layer (Martens and Grosse
        2015, section 3).
        """
        return [
            (_second_moment(a), _second_moment(g))
            for a, g in zip(self.inputs, self.gradients, strict=True)
        ]

    def along(self, updates: Sequence[Tensor]) -> Tensor:
        """(B * D,): the change of the output along `updates`, in units of its predicted spread.

        F(u, v) = along(u) . along(v) is the exact Fisher product over the batch (section 6.4).
        """
        directions = [
            (a @ u.t()).to(g.dtype)
            for a, u, g in zip(self.inputs, updates, self.gradients, strict=True)
        ]
        with torch.enable_grad():
            (change,) = torch.autograd.grad(
                self.gradients, self.draw, directions, retain_graph=True
            )
        return (self.root * change).flatten() / math.sqrt(self.rows)


class ForwardObserver(TorchFunctionMode):
    """A context that records every linear layer of the network's first forward pass.

    It intercepts torch.nn.functional.linear, so that weights outside an nn.Linear are recorded
    too; the network itself is not changed.
    """

    def __init__(
        self, network: nn.Module, loss: HasCurvature, trained: Sequence[nn.Parameter], seed: int
    ) -> None:
        super().__init__()
        self.network, self.loss, self.seed = network, loss, seed
        self.trained = {id(parameter): parameter for parameter in trained}
        self.calls: list[LayerCall] = []
        self.is_recording = False
        self.curvature: Curvature | None = None
        """The curvature of the recorded layers, or None without linear layers."""

        self.hooks: list[RemovableHandle] = []

    def __enter__(self) -> "ForwardObserver":
        self.hooks = [
            self.network.register_forward_pre_hook(self._begin),
            self.network.register_forward_hook(self._end),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        """Call `func`, and record it if it is a linear layer."""
        del types
        result = func(*args, **(kwargs or {}))
        if self.is_recording and func is functional.linear:
            self._record(result, *args, **(kwargs or {}))  # type: ignore[arg-type]
        return result

    def _begin(self, *_: object) -> None:
        self.is_recording = self.curvature is None

    def _end(self, network: nn.Module, inputs: object, output: Tensor) -> None:
        del network, inputs
        if not self.is_recording:
            return
        self.is_recording = False
        weights = [id(call.layer.weight) for call in self.calls]
        # The Fisher matrix of a weight that is used twice is not a Kronecker product.
        calls = [call for call in self.calls if weights.count(id(call.layer.weight)) == 1]
        self.calls = []
        if calls:
            raw = getattr(output, "reconstruction", output)
            self.curvature = Curvature(calls, raw, self.loss, self.seed)

    def _record(
        self, outputs: Tensor, inputs: Tensor, weight: Tensor, bias: Tensor | None = None
    ) -> None:
        stored = self.trained.get(id(weight if weight._base is None else weight._base))
        if stored is None or inputs.ndim != 2:
            return
        transposed = stored is not weight
        if transposed and (weight.shape, weight.stride()) != (
            stored.t().shape,
            stored.t().stride(),
        ):
            return
        trained_bias = None if bias is None else self.trained.get(id(bias))
        layer = LinearParameters(weight=stored, bias=trained_bias, transposed=transposed)
        a = inputs.detach().to(stored.dtype)
        if trained_bias is not None:
            a = functional.pad(a, (0, 1), value=1.0)
        self.calls.append(LayerCall(layer=layer, inputs=a, outputs=outputs))


def _detached(raw: Tensor) -> Tensor:
    """`raw` without its graph, in single precision or better."""
    raw = raw.detach()
    return raw.float() if raw.dtype in (torch.bfloat16, torch.float16) else raw


def _second_moment(x: Tensor) -> Tensor:
    x = _detached(x)
    return x.t() @ x / len(x)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
