"""Forward and backward passes of dense networks, worked out once and then only carried out.

The gradients are those of the chain rule (Rumelhart, Hinton and Williams 1986), each written into
memory that is there already: no graph, no allocation, no Python object is made in a step.
"""

# Shape letters: B rows in a batch, D features, K code units, I and O inputs and outputs of a layer.

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from isthmus.kinds import DenseForm
from isthmus.training.bending import BENDS

Work = Callable[[], object]


@dataclass(eq=False)
class Node:
    """Numbers of a batch on their way through the network, and the loss's slope in them."""

    value: Tensor
    slope: Tensor | None = None
    asked: bool = True
    """Whether anybody needs the slope: not that of the network's own input."""

    reached: bool = False
    """Whether something is in `slope` already, on the way back."""


@dataclass
class Passes:
    """The two passes over batches of one size, as work to be done in order."""

    seen: Node
    """(B, D): what the network is given."""

    code: Node
    raw: Node
    """(B, K) and (B, D); their slopes are to be filled in between the passes."""

    forward: list[Work] = field(default_factory=list)
    backward: list[Work] = field(default_factory=list)


def passes_of(
    form: DenseForm, batch: int, slopes: Mapping[Tensor, Tensor], *, code_slope: bool
) -> Passes:
    """The passes of a network over batches of `batch` rows, gradients written into `slopes`.

    With `code_slope`, the code's own slope (of penalties) is there before the way back begins.
    """
    return _Planner(form, batch, slopes).passes(code_slope=code_slope)


class _Planner:
    def __init__(self, form: DenseForm, batch: int, slopes: Mapping[Tensor, Tensor]) -> None:
        self.form, self.batch, self.slopes = form, batch, slopes
        self.like = next(iter(slopes.values()))
        self.forward: list[Work] = []
        self.stages: list[Callable[[], list[Work]]] = []
        """What to do on the way back, last first; planned when all of the way there is known."""

    def passes(self, *, code_slope: bool) -> Passes:
        form = self.form
        layers = form.encoder or form.decoder
        width = layers[0].in_features if form.encoder else self._linear_width()
        seen = Node(self._buffer(width), asked=False)
        code = self._path(seen, form.encoder, encode=True)
        before_dropout = code = self._bent(code, form.code_activation)
        raw = self._path(self._dropped(code, form.code_dropout), form.decoder, encode=False)
        raw = self._limited(raw)
        raw.slope, raw.reached = torch.zeros_like(raw.value), True
        if code_slope:
            self._with_slope(before_dropout)
            before_dropout.reached = True
        backward = [work for stage in reversed(self.stages) for work in stage()]
        return Passes(seen, before_dropout, raw, self.forward, backward)

    def _linear_width(self) -> int:
        assert self.form.linear is not None
        return self.form.linear.encode_weight.shape[1]

    def _buffer(self, width: int) -> Tensor:
        return self.like.new_zeros(self.batch, width)

    def _with_slope(self, node: Node) -> Tensor:
        if node.slope is None:
            node.slope = torch.zeros_like(node.value)
        return node.slope

    def _path(self, x: Node, layers: tuple[nn.Linear, ...], *, encode: bool) -> Node:
        """Both ways from `x` to the code, or from the code to the raw output, and their sum."""
        path = self.form.linear
        out: Node | None = None
        if path is not None and encode:
            out = self._affine(x, path.encode_weight, path.encode_bias)
        elif path is not None:
            assert path.decode_weight is not None
            out = self._affine(x, path.decode_weight, path.decode_bias, stored_inputs_first=True)
        for layer in layers[:-1]:
            x = self._bent(self._affine(x, layer.weight, layer.bias), self.form.activation)
            x = self._dropped(x, self.form.dropout)
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
        """X W + b, added to what is in `out` where that is given."""
        matrix = weight.data if stored_inputs_first else weight.data.t()  # (I, O)
        if out is None:
            out = Node(self._buffer(matrix.shape[1]))
            self._do(torch.addmm, bias.data, x.value, matrix, out=out.value)
        else:
            self._do(out.value.addmm_, x.value, matrix)
            self._do(out.value.add_, bias.data)
        self.stages.append(
            functools.partial(
                self._affine_back, x, out, matrix, weight, bias, inputs_first=stored_inputs_first
            )
        )
        return out

    def _affine_back(
        self,
        x: Node,
        out: Node,
        matrix: Tensor,
        weight: Tensor,
        bias: Tensor,
        *,
        inputs_first: bool,
    ) -> list[Work]:
        slope = self._with_slope(out)
        of_weight, of_bias = self.slopes[weight], self.slopes[bias]
        first, second = (x.value, slope) if inputs_first else (slope, x.value)
        work: list[Work] = [
            functools.partial(torch.mm, first.t(), second, out=of_weight),
            functools.partial(torch.sum, slope, 0, out=of_bias),
        ]
        if x.asked:
            target = self._with_slope(x)
            if x.reached:
                work.append(functools.partial(target.addmm_, slope, matrix.t()))
            else:
                work.append(functools.partial(torch.mm, slope, matrix.t(), out=target))
            x.reached = True
        return work

    def _bent(self, z: Node, name: str) -> Node:
        if name == "linear":
            return z
        bend = BENDS[name]
        a = Node(torch.zeros_like(z.value))
        self._do(bend.forward, z.value, out=a.value)

        def back() -> list[Work]:
            slope = self._with_slope(a)
            z.slope, z.reached = slope, True  # nothing else reads z: it may take the place over
            known = a.value if bend.knows_output else z.value
            return [functools.partial(bend.backward, slope, known, grad_input=slope)]

        self.stages.append(back)
        return a

    def _dropped(self, a: Node, rate: float) -> Node:
        if not rate:
            return a
        mask, kept = torch.ones_like(a.value), Node(torch.zeros_like(a.value))
        # The draws of nn.Dropout, in its order.
        self._do(mask.bernoulli_, 1 - rate)
        self._do(mask.div_, 1 - rate)
        self._do(torch.mul, a.value, mask, out=kept.value)

        def back() -> list[Work]:
            slope, target = self._with_slope(kept), self._with_slope(a)
            if a.reached:
                return [functools.partial(target.addcmul_, slope, mask)]
            a.reached = True
            return [functools.partial(torch.mul, slope, mask, out=target)]

        self.stages.append(back)
        return kept

    def _limited(self, raw: Node) -> Node:
        limit = self.form.limit
        if limit is None:
            return raw
        kept, out = torch.zeros_like(raw.value), Node(torch.zeros_like(raw.value))
        ends = (limit.get_buffer(name).flatten().to(kept) for name in ("floor", "ceiling"))
        floor, ceiling = (end.expand(kept.shape[1]) for end in ends)
        beyond = torch.zeros_like(kept, dtype=torch.bool)
        self._do(torch.clamp, raw.value, floor, ceiling, out=kept)
        self._do(torch.lerp, kept, raw.value, limit.LEAK, out=out.value)

        def back() -> list[Work]:
            slope = self._with_slope(out)
            raw.slope, raw.reached = slope, True
            leaking = torch.zeros_like(slope)
            return [
                functools.partial(torch.ne, kept, raw.value, out=beyond),
                functools.partial(torch.mul, slope, limit.LEAK, out=leaking),
                functools.partial(torch.where, beyond, leaking, slope, out=slope),
            ]

        self.stages.append(back)
        return out

    def _do(self, operation: Callable[..., object], *args: object, **options: object) -> None:
        self.forward.append(functools.partial(operation, *args, **options))
