"""Forward and backward passes of dense networks, worked out once and then only carried out.

The gradients are those of the chain rule (Rumelhart, Hinton and Williams 1986), each written into
memory that is there already: no graph, no allocation, no Python object is made in a step.
"""

# Shape letters: B rows in a batch, D features, K code units, I and O inputs and outputs of a layer.
# Of a stack of N networks every tensor has N of these, its first axis.

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from isthmus.kinds import ACTIVATIONS, DenseForm
from isthmus.kinds.base import LinearPath
from isthmus.training.engines.dense.flat_parameters import Place, corner
from isthmus.training.engines.dense.matmul import ByNumpy, Products, Work
from isthmus.types import Array


@dataclass(eq=False)
class Node:
    """Numbers of a batch on their way through the network, and the loss's slope in them."""

    value: Tensor
    slope: Tensor | None = None
    asked: bool = True
    """Whether anybody needs the slope: not that of the network's own input."""

    reached: bool = False
    """Whether something is in `slope` already, on the way back."""

    def of(self, number: int) -> "Node":
        """The part of one network of a stack."""
        return Node(self.value[number], None if self.slope is None else self.slope[number])

    def first(self, width: int) -> "Node":
        """The first columns alone, where widths were rounded up."""
        if self.value.shape[-1] == width:
            return self
        slope = None if self.slope is None else self.slope[..., :width]
        return Node(self.value[..., :width], slope)


class Arrays(NamedTuple):
    """What stands between the passes, (B, D) each, as NumPy sees it."""

    seen: Array
    raw: Array
    slope: Array


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
    arrays: Arrays | None = None
    """Views for NumPy, where that does the products."""

    masks: list[tuple[Tensor, float]] = field(default_factory=list)
    """What dropout keeps, and how often it keeps it, in the order of the draws."""

    extra: list[Tensor] = field(default_factory=list)
    """What is to be added to the slopes of some parameters, filled in between the passes."""

    def draw(self) -> None:
        """Draw what is dropped, as nn.Dropout does on the way."""
        for mask, kept in self.masks:
            mask.bernoulli_(kept).div_(kept)

    def of(self, number: int) -> "Passes":
        """The part of one network of a stack, which has no work of its own."""
        seen, code, raw = (node.of(number) for node in (self.seen, self.code, self.raw))
        masks = [(mask[number], kept) for mask, kept in self.masks]
        extra = [slope[number] for slope in self.extra]
        return Passes(seen, code, raw, masks=masks, extra=extra)


def passes_of(
    forms: Sequence[DenseForm],
    batch: int,
    places: Mapping[Tensor, Place],
    products: Products,
    *,
    code_slope: bool,
    extra: Sequence[Tensor] = (),
) -> Passes:
    """The passes over batches of `batch` rows of one network, or of a stack of several.

    `places` are those of the parameters of the first network. With `code_slope`, the code's own
    slope (of penalties) is there before the way back begins; so are parts of the slopes of the
    parameters `extra` of the first network.
    """
    planner = _Planner(forms, batch, places, products)
    passes = planner.passes(code_slope=code_slope)
    for parameter in extra:
        passes.extra.append(planner.added(passes, places[parameter], parameter))
    return passes


class _Planner:
    def __init__(
        self,
        forms: Sequence[DenseForm],
        batch: int,
        places: Mapping[Tensor, Place],
        products: Products,
    ) -> None:
        self.forms, self.form, self.batch, self.places = forms, forms[0], batch, places
        self.products = products
        (parameter, place), *_ = places.items()
        self.like = place.value
        self.stacked = place.value.ndim > parameter.ndim
        self.lead = (len(forms),) if self.stacked else ()
        self.masks: list[tuple[Tensor, float]] = []
        self.forward: list[Work] = []
        self.stages: list[Callable[[], list[Work]]] = []
        """What to do on the way back, last first; planned when all of the way there is known."""

    def passes(self, *, code_slope: bool) -> Passes:
        form = self.form
        first = form.encoder[0].weight if form.encoder else self._linear().encode_weight
        seen = Node(self._buffer(self.places[first].value.shape[-1]), asked=False)
        code = self._path(self._completed(seen), form.encoder, encode=True)
        before_dropout = code = self._bent(code, form.code_activation)
        raw = self._path(self._dropped(code, form.code_dropout), form.decoder, encode=False)
        raw = self._limited(raw)
        raw.slope, raw.reached = torch.zeros_like(raw.value), True
        if code_slope:
            self._with_slope(before_dropout)
            before_dropout.reached = True
        backward = [work for stage in reversed(self.stages) for work in stage()]
        arrays = None
        if isinstance(self.products, ByNumpy):
            arrays = Arrays(seen.value.numpy(), raw.value.numpy(), raw.slope.numpy())
        last = form.encoder[-1].weight if form.encoder else self._linear().encode_weight
        width, size = form.n_features, len(last)
        own = seen.first(width), before_dropout.first(size), raw.first(width)
        return Passes(*own, self.forward, backward, arrays, self.masks)

    def added(self, passes: Passes, place: Place, parameter: Tensor) -> Tensor:
        """What is added to a slope at the end of the way back, as the parameter is."""
        more = parameter.detach().new_zeros(*self.lead, *parameter.shape)
        slope = corner(place.slope, parameter.shape)
        passes.backward.append(functools.partial(slope.add_, more))
        return more

    def _completed(self, seen: Node) -> Node:
        """A learned number in the place of each that is missing, where any may be."""
        if self.form.fill_value is None:
            return seen
        place, like = self.places[self.form.fill_value], seen.value
        missing, zero = torch.zeros_like(like, dtype=torch.bool), like.new_zeros(())
        x = Node(torch.zeros_like(like))
        self._do(torch.ne, like, like, out=missing)  # nothing else is not itself
        self._do(torch.where, missing, place.value[..., None, :], like, out=x.value)

        def back() -> list[Work]:
            slope = self._with_slope(x)
            alone = functools.partial(torch.where, missing, slope, zero, out=slope)
            return [alone, *self.products.sums(slope, place.slope)]

        self.stages.append(back)
        return x

    def _linear(self) -> LinearPath:
        assert self.form.linear is not None
        return self.form.linear

    def _buffer(self, width: int) -> Tensor:
        return self.like.new_zeros(*self.lead, self.batch, width)

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
        matrix = self.places[weight].value  # (O, I), or (I, O)
        matrix = matrix if stored_inputs_first else matrix.mT
        offset = self.places[bias].value
        if out is None:
            out = Node(self._buffer(matrix.shape[-1]))
            self.forward += self.products.affine(x.value, matrix, offset, out.value)
        else:
            self.forward += self.products.affine_more(x.value, matrix, offset, out.value)
        places = self.places[weight], self.places[bias]
        self.stages.append(
            functools.partial(
                self._affine_back, x, out, matrix, *places, inputs_first=stored_inputs_first
            )
        )
        return out

    def _affine_back(
        self, x: Node, out: Node, matrix: Tensor, weight: Place, bias: Place, *, inputs_first: bool
    ) -> list[Work]:
        slope = self._with_slope(out)
        first, second = (x.value, slope) if inputs_first else (slope, x.value)
        work = self.products.slopes(first, second, weight.slope)
        work += self.products.sums(slope, bias.slope)
        if x.asked:
            back = self.products.back_more if x.reached else self.products.back
            work += back(slope, matrix, self._with_slope(x))
            x.reached = True
        return work

    def _bent(self, z: Node, name: str) -> Node:
        if name == "linear":
            return z
        bend = ACTIVATIONS[name].in_place
        a = Node(torch.zeros_like(z.value))
        self._do(bend.forward, z.value, out=a.value)

        def back() -> list[Work]:
            slope = self._with_slope(a)
            z.slope, z.reached = slope, True  # nothing else reads z: it may take the place over
            known = a.value if bend.saves_output else z.value
            return [functools.partial(bend.backward, slope, known, grad_input=slope)]

        self.stages.append(back)
        return a

    def _dropped(self, a: Node, rate: float) -> Node:
        if not rate:
            return a
        mask, kept = torch.ones_like(a.value), Node(torch.zeros_like(a.value))
        self.masks.append((mask, 1 - rate))
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
        floor, ceiling = self._ends(kept)
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

    def _ends(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(D,) each, or (N, 1, D) of a stack: where outputs end, below and above."""
        known = torch.stack([form.ends(raw) for form in self.forms])
        wide = nn.functional.pad(known, (0, raw.shape[-1] - known.shape[-1]))
        low, high = wide.unbind(1) if self.stacked else wide[0]
        return (low[:, None], high[:, None]) if self.stacked else (low, high)

    def _do(self, operation: Callable[..., object], *args: object, **options: object) -> None:
        self.forward.append(functools.partial(operation, *args, **options))
