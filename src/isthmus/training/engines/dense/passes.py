"""Forward and backward passes of dense networks, planned once and run many times.

The gradients follow the chain rule (Rumelhart, Hinton and Williams 1986). Each operation writes
into preallocated memory, so that a step builds no graph and allocates nothing.
"""

# Shape letters: B rows in a batch, D features, K code units, I and O inputs and outputs of a layer.
# With a batch of N networks every tensor has a first axis N.

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from isthmus.kinds import ACTIVATIONS, DenseForm
from isthmus.kinds.base import LinearPath
from isthmus.training.engines.dense.flat_parameters import ParameterView, leading_block
from isthmus.training.engines.dense.matmul import MatMul, NumpyMatMul, Operation
from isthmus.types import Array


@dataclass(eq=False)
class Node:
    """Values of a batch inside the network, and the gradient of the loss in them."""

    value: Tensor
    grad: Tensor | None = None
    needs_grad: bool = True
    """Whether the gradient is needed; the network's input needs none."""

    has_grad: bool = False
    """Whether the backward pass has written to `grad` already."""

    def of_network(self, number: int) -> "Node":
        """The part of one network of a batch of networks."""
        return Node(self.value[number], None if self.grad is None else self.grad[number])

    def narrowed(self, width: int) -> "Node":
        """The first columns, without padding."""
        if self.value.shape[-1] == width:
            return self
        grad = None if self.grad is None else self.grad[..., :width]
        return Node(self.value[..., :width], grad)


class Arrays(NamedTuple):
    """NumPy views (B, D) of the input, the output and its gradient."""

    seen: Array
    raw: Array
    grad: Array


@dataclass
class Passes:
    """The forward and backward pass over batches of one size, as operations to run in order."""

    seen: Node
    """(B, D): the network's input."""

    code: Node
    raw: Node
    """(B, K) and (B, D); the loss writes their gradients between the passes."""

    forward: list[Operation] = field(default_factory=list)
    backward: list[Operation] = field(default_factory=list)
    arrays: Arrays | None = None
    """NumPy views, if NumPy computes the products."""

    masks: list[tuple[Tensor, float]] = field(default_factory=list)
    """Dropout masks and the probability of keeping a value, in drawing order."""

    extra: list[Tensor] = field(default_factory=list)
    """Terms to add to the gradients of some parameters, written between the passes."""

    def draw_dropout(self) -> None:
        """Draw the dropout masks, as nn.Dropout does."""
        for mask, keep in self.masks:
            mask.bernoulli_(keep).div_(keep)

    def of_network(self, number: int) -> "Passes":
        """The part of one network of a batch of networks, without operations of its own."""
        seen, code, raw = (node.of_network(number) for node in (self.seen, self.code, self.raw))
        masks = [(mask[number], keep) for mask, keep in self.masks]
        extra = [grad[number] for grad in self.extra]
        return Passes(seen, code, raw, masks=masks, extra=extra)


def plan_passes(
    forms: Sequence[DenseForm],
    batch: int,
    views: Mapping[Tensor, ParameterView],
    matmul: MatMul,
    *,
    code_grad: bool,
    extra: Sequence[Tensor] = (),
) -> Passes:
    """The passes over batches of `batch` rows of one network, or of several of the same form.

    `views` are the buffers of the first network's parameters. With `code_grad`, the loss has a
    gradient in the code. For the parameters `extra`, it has a gradient in the weights as well.
    """
    planner = _PassPlanner(forms, batch, views, matmul)
    passes = planner.passes(code_grad=code_grad)
    for parameter in extra:
        passes.extra.append(planner.add_grad(passes, views[parameter], parameter))
    return passes


class _PassPlanner:
    def __init__(
        self,
        forms: Sequence[DenseForm],
        batch: int,
        views: Mapping[Tensor, ParameterView],
        matmul: MatMul,
    ) -> None:
        self.forms, self.form, self.batch, self.views = forms, forms[0], batch, views
        self.matmul = matmul
        (parameter, view), *_ = views.items()
        self.like = view.value
        self.is_batched = view.value.ndim > parameter.ndim
        self.lead = (len(forms),) if self.is_batched else ()
        self.masks: list[tuple[Tensor, float]] = []
        self.forward: list[Operation] = []
        self.stages: list[Callable[[], list[Operation]]] = []
        """The stages of the backward pass in forward order, planned after the forward pass."""

    def passes(self, *, code_grad: bool) -> Passes:
        form = self.form
        first = form.encoder[0].weight if form.encoder else self._linear().encode_weight
        seen = Node(self._buffer(self.views[first].value.shape[-1]), needs_grad=False)
        code = self._path(self._filled(seen), form.encoder, encode=True)
        before_dropout = code = self._activated(code, form.code_activation)
        raw = self._path(self._with_dropout(code, form.code_dropout), form.decoder, encode=False)
        raw = self._clamped(raw)
        raw.grad, raw.has_grad = torch.zeros_like(raw.value), True
        if code_grad:
            self._with_grad(before_dropout)
            before_dropout.has_grad = True
        backward = [operation for stage in reversed(self.stages) for operation in stage()]
        arrays = None
        if isinstance(self.matmul, NumpyMatMul):
            arrays = Arrays(seen.value.numpy(), raw.value.numpy(), raw.grad.numpy())
        last = form.encoder[-1].weight if form.encoder else self._linear().encode_weight
        width, size = form.n_features, len(last)
        own = seen.narrowed(width), before_dropout.narrowed(size), raw.narrowed(width)
        return Passes(*own, self.forward, backward, arrays, self.masks)

    def add_grad(self, passes: Passes, view: ParameterView, parameter: Tensor) -> Tensor:
        """A tensor, shaped as the parameter, that the backward pass adds to its gradient last."""
        term = parameter.detach().new_zeros(*self.lead, *parameter.shape)
        grad = leading_block(view.grad, parameter.shape)
        passes.backward.append(functools.partial(grad.add_, term))
        return term

    def _filled(self, seen: Node) -> Node:
        """The input with missing values replaced by the learned fill values."""
        if self.form.fill_value is None:
            return seen
        view, like = self.views[self.form.fill_value], seen.value
        missing, zero = torch.zeros_like(like, dtype=torch.bool), like.new_zeros(())
        x = Node(torch.zeros_like(like))
        self._do(torch.ne, like, like, out=missing)  # only NaN differs from itself
        self._do(torch.where, missing, view.value[..., None, :], like, out=x.value)

        def back() -> list[Operation]:
            grad = self._with_grad(x)
            alone = functools.partial(torch.where, missing, grad, zero, out=grad)
            return [alone, *self.matmul.bias_grad(grad, view.grad)]

        self.stages.append(back)
        return x

    def _linear(self) -> LinearPath:
        assert self.form.linear is not None
        return self.form.linear

    def _buffer(self, width: int) -> Tensor:
        return self.like.new_zeros(*self.lead, self.batch, width)

    def _with_grad(self, node: Node) -> Tensor:
        if node.grad is None:
            node.grad = torch.zeros_like(node.value)
        return node.grad

    def _path(self, x: Node, layers: tuple[nn.Linear, ...], *, encode: bool) -> Node:
        """The sum of the linear and nonlinear path to the code or to the output."""
        path = self.form.linear
        out: Node | None = None
        if path is not None and encode:
            out = self._affine(x, path.encode_weight, path.encode_bias)
        elif path is not None:
            assert path.decode_weight is not None
            out = self._affine(x, path.decode_weight, path.decode_bias, stored_inputs_first=True)
        for layer in layers[:-1]:
            x = self._activated(self._affine(x, layer.weight, layer.bias), self.form.activation)
            x = self._with_dropout(x, self.form.dropout)
        if layers:
            out = self._affine(x, layers[-1].weight, layers[-1].bias, out)
        assert out is not None
        return out

    def _affine(
        self,
        x: Node,
        weight: Tensor,
        bias: Tensor,
        out: Node | None = None,
        *,
        stored_inputs_first: bool = False,
    ) -> Node:
        """X W + b, added to `out` if that is given."""
        matrix = self.views[weight].value  # (O, I), or (I, O)
        matrix = matrix if stored_inputs_first else matrix.mT
        offset = self.views[bias].value
        if out is None:
            out = Node(self._buffer(matrix.shape[-1]))
            self.forward += self.matmul.affine(x.value, matrix, offset, out.value)
        else:
            self.forward += self.matmul.affine_add(x.value, matrix, offset, out.value)
        views = self.views[weight], self.views[bias]
        self.stages.append(
            functools.partial(
                self._affine_back, x, out, matrix, *views, inputs_first=stored_inputs_first
            )
        )
        return out

    def _affine_back(
        self,
        x: Node,
        out: Node,
        matrix: Tensor,
        weight: ParameterView,
        bias: ParameterView,
        *,
        inputs_first: bool,
    ) -> list[Operation]:
        grad = self._with_grad(out)
        first, second = (x.value, grad) if inputs_first else (grad, x.value)
        operations = self.matmul.weight_grad(first, second, weight.grad)
        operations += self.matmul.bias_grad(grad, bias.grad)
        if x.needs_grad:
            back = self.matmul.input_grad_add if x.has_grad else self.matmul.input_grad
            operations += back(grad, matrix, self._with_grad(x))
            x.has_grad = True
        return operations

    def _activated(self, z: Node, name: str) -> Node:
        if name == "linear":
            return z
        in_place = ACTIVATIONS[name].in_place
        assert in_place is not None
        a = Node(torch.zeros_like(z.value))
        self._do(in_place.forward, z.value, out=a.value)

        def back() -> list[Operation]:
            grad = self._with_grad(a)
            z.grad, z.has_grad = grad, True  # only a reads z, so its gradient may overwrite
            saved = a.value if in_place.saves_output else z.value
            return [functools.partial(in_place.backward, grad, saved, grad_input=grad)]

        self.stages.append(back)
        return a

    def _with_dropout(self, a: Node, rate: float) -> Node:
        if not rate:
            return a
        mask, out = torch.ones_like(a.value), Node(torch.zeros_like(a.value))
        self.masks.append((mask, 1 - rate))
        self._do(torch.mul, a.value, mask, out=out.value)

        def back() -> list[Operation]:
            grad, target = self._with_grad(out), self._with_grad(a)
            if a.has_grad:
                return [functools.partial(target.addcmul_, grad, mask)]
            a.has_grad = True
            return [functools.partial(torch.mul, grad, mask, out=target)]

        self.stages.append(back)
        return out

    def _clamped(self, raw: Node) -> Node:
        limit = self.form.limit
        if limit is None:
            return raw
        clamped, out = torch.zeros_like(raw.value), Node(torch.zeros_like(raw.value))
        low, high = self._bounds(clamped)
        beyond = torch.zeros_like(clamped, dtype=torch.bool)
        self._do(torch.clamp, raw.value, low, high, out=clamped)
        self._do(torch.lerp, clamped, raw.value, limit.LEAK, out=out.value)

        def back() -> list[Operation]:
            grad = self._with_grad(out)
            raw.grad, raw.has_grad = grad, True
            leaking = torch.zeros_like(grad)
            return [
                functools.partial(torch.ne, clamped, raw.value, out=beyond),
                functools.partial(torch.mul, grad, limit.LEAK, out=leaking),
                functools.partial(torch.where, beyond, leaking, grad, out=grad),
            ]

        self.stages.append(back)
        return out

    def _bounds(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """The lower and upper bounds of the outputs: (D,), or (N, 1, D) for N networks."""
        bounds = torch.stack([form.ends(raw) for form in self.forms])
        padding = raw.shape[-1] - bounds.shape[-1]
        padded = nn.functional.pad(bounds, (0, padding))
        low, high = padded.unbind(1) if self.is_batched else padded[0]
        return (low[:, None], high[:, None]) if self.is_batched else (low, high)

    def _do(self, operation: Callable[..., object], *args: object, **options: object) -> None:
        self.forward.append(functools.partial(operation, *args, **options))
