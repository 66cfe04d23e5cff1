"""The curvature of a loss as each linear layer sees it, watched while a closure runs."""

# B rows in a batch, D features, I inputs of a layer (with one for its bias), O outputs.

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from isthmus.types import Predictive


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The parameters of one linear layer, as a single (O, I) matrix."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    transposed: bool
    """Whether the weight is stored (inputs, outputs)."""

    def matrix(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(O, I): weight and bias side by side, the bias as the weight of an input of 1."""
        weight = weight.t() if self.transposed else weight
        return weight if bias is None else torch.cat([weight, bias[:, None]], dim=1)

    @property
    def gradient(self) -> Tensor:
        """(O, I): the gradient that the last backward pass left; zero where it left none."""
        return self.matrix(
            _gradient(self.weight), self.bias if self.bias is None else _gradient(self.bias)
        )

    @property
    def decaying(self) -> Tensor:
        """(O, I): the weight, and zero for the bias."""
        return self.matrix(
            self.weight, self.bias if self.bias is None else torch.zeros_like(self.bias)
        )

    def move(self, update: Tensor) -> None:
        """Add an (O, I) update to the parameters, in place."""
        if self.bias is not None:
            self.bias.add_(update[:, -1])
            update = update[:, :-1]
        self.weight.add_(update.t() if self.transposed else update)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One linear layer in one forward pass."""

    layer: Layer
    inputs: Tensor
    """(B, I)"""

    outputs: Tensor
    """(B, O)"""


class Curvature:
    """Factors and Fisher products of one batch, by double backward through its forward pass."""

    def __init__(self, seen: Sequence[Seen], raw: Tensor, loss: Predictive, seed: int) -> None:
        # A row's loss is the mean over its features, hence its Fisher is theirs divided by D.
        fisher = loss.curvature(_plain(raw)) / raw[0].numel()
        self.root, self.rows = fisher.sqrt(), len(raw)
        # Any noise of mean 0 and this variance has the second moments of sampled targets; signs
        # have the least variance of their squares.
        generator = torch.Generator(raw.device).manual_seed(seed)
        signs = torch.randint(0, 2, raw.shape, generator=generator, device=raw.device) * 2 - 1
        self.draw = (self.root * signs).to(raw.dtype).requires_grad_()
        outputs = [one.outputs for one in seen]
        found = torch.autograd.grad(raw, outputs, self.draw, create_graph=True, allow_unused=True)
        # Functions of `draw`, linear in it: their derivative by it is the network's own.
        heard = [(one, g) for one, g in zip(seen, found, strict=True) if g is not None]
        self.layers = [one.layer for one, _ in heard]
        self.inputs = [one.inputs for one, _ in heard]
        self.gradients = [g for _, g in heard]

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """For each layer (I, I) E[a a'] of its inputs and (O, O) E[g g'] of its outputs' gradient.

        Martens and Grosse (2015), section 3: their Kronecker product stands for the layer's Fisher.
        """
        return [
            (_second_moment(a), _second_moment(g))
            for a, g in zip(self.inputs, self.gradients, strict=True)
        ]

    def along(self, updates: Sequence[Tensor]) -> Tensor:
        """(B * D,): how the output moves along `updates`, in units of its predicted spread.

        F(u, v) = along(u) . along(v) is the exact Fisher product over the batch (section 6.4).
        """
        moved = [
            (a @ u.t()).to(g.dtype)
            for a, u, g in zip(self.inputs, updates, self.gradients, strict=True)
        ]
        with torch.enable_grad():
            (change,) = torch.autograd.grad(self.gradients, self.draw, moved, retain_graph=True)
        return (self.root * change).flatten() / math.sqrt(self.rows)


class Watch(TorchFunctionMode):
    """While it lasts, notes every linear layer of the network's first forward pass.

    It looks at calls of torch.nn.functional.linear, whoever makes them, so that weights outside
    an nn.Linear are seen too; the network itself keeps no trace of it.
    """

    def __init__(
        self, network: nn.Module, loss: Predictive, trained: Sequence[nn.Parameter], seed: int
    ) -> None:
        super().__init__()
        self.network, self.loss, self.seed = network, loss, seed
        self.trained = {id(parameter): parameter for parameter in trained}
        self.seen: list[Seen] = []
        self.open, self.curvature = False, None
        self.hooks: list[Any] = []

    curvature: Curvature | None
    """What was seen, or None where there was no layer to see."""

    def __enter__(self) -> "Watch":
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
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call `func` and take a note of it where it is a linear layer's."""
        del types
        result = func(*args, **(kwargs or {}))
        if self.open and func is functional.linear:
            self._note(result, *args, **(kwargs or {}))
        return result

    def _begin(self, *_: object) -> None:
        self.open = self.curvature is None

    def _end(self, network: nn.Module, given: object, output: Any) -> None:
        del network, given
        if not self.open:
            return
        self.open = False
        weights = [id(one.layer.weight) for one in self.seen]
        # A weight that is used twice has no Fisher of Kronecker form.
        once = [one for one in self.seen if weights.count(id(one.layer.weight)) == 1]
        self.seen = []
        if once:
            raw = getattr(output, "reconstruction", output)
            self.curvature = Curvature(once, raw, self.loss, self.seed)

    def _note(
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
        own = None if bias is None else self.trained.get(id(bias))
        layer = Layer(weight=stored, bias=own, transposed=transposed)
        a = inputs.detach().to(stored.dtype)
        if own is not None:
            a = functional.pad(a, (0, 1), value=1.0)
        self.seen.append(Seen(layer=layer, inputs=a, outputs=outputs))


def _plain(raw: Tensor) -> Tensor:
    """`raw` apart from its graph, in single precision at least."""
    raw = raw.detach()
    return raw.float() if raw.dtype in (torch.bfloat16, torch.float16) else raw


def _second_moment(x: Tensor) -> Tensor:
    x = _plain(x)
    return x.t() @ x / len(x)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
