"""A small network, its losses and its Adam as numbers that kernels understand.

One kernel is written in Triton for GPUs (`kernels.py`), the other in C (`native/steps.h`).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from isthmus.kinds import ACTIVATIONS, DenseForm
from isthmus.training.engines.dense.adam_loop import Stride
from isthmus.training.engines.dense.flat_parameters import Flat
from isthmus.training.engines.dense.losses import Head, SquaredHead
from isthmus.training.engines.dense.step import ClosedStep

FEWEST = 16
"""Rows and columns of the smallest product that a GPU's units for matrices do."""


class Layer(NamedTuple):
    """A layer as the kernel knows it: numbers of slots, and places of weights in the buffer."""

    source: int
    target: int
    weight: int
    bias: int
    ins: int
    outs: int
    by_input: int
    """How far two inputs of the same output are apart in the buffer."""

    by_output: int
    adds: bool
    """Whether something is in the target already."""

    act: int
    """The number of what bends the output."""

    reached: bool = False
    """Whether a later layer has the same source, and so its slope there before this one."""


def layers_of(form: DenseForm, flat: Flat) -> list[Layer]:
    """The layers in the order in which they are asked, each with the slot that it writes to.

    Slot 0 is the rows; two ways to the same numbers, the linear one first, share a slot.
    """
    layers = _Slots(form, flat).layers
    sources = [layer.source for layer in layers]
    return [x._replace(reached=x.source in sources[at + 1 :]) for at, x in enumerate(layers)]


class _Slots:
    def __init__(self, form: DenseForm, flat: Flat) -> None:
        self.places = flat.starts
        self.form, self.layers, self.last = form, list[Layer](), 0
        path = form.linear
        first = second = None
        if path is not None:
            assert path.decode_weight is not None
            first = path.encode_weight, path.encode_bias
            second = path.decode_weight.t(), path.decode_bias  # stored (K, D)
            self.places[second[0]] = self.places[path.decode_weight]
        code = self._way(0, first, form.encoder, form.code_activation)
        self._way(code, second, form.decoder, "linear")

    def _way(
        self,
        start: int,
        straight: tuple[Tensor, Tensor] | None,
        layers: tuple[nn.Linear, ...],
        act: str,
    ) -> int:
        """Both ways from a slot; the slot where they meet."""
        meeting = self._slot()
        if straight is not None:
            self._layer(start, meeting, straight, "linear" if layers else act)
        for layer in layers[:-1]:
            end = self._slot()
            self._layer(start, end, (layer.weight, layer.bias), self.form.activation)
            start = end
        if layers:
            self._layer(start, meeting, (layers[-1].weight, layers[-1].bias), act)
        return meeting

    def _slot(self) -> int:
        self.last += 1
        return self.last

    def _layer(self, source: int, target: int, parts: tuple[Tensor, Tensor], act: str) -> None:
        """Of a weight (O, I), however it lies in memory, and a bias (O,)."""
        weight, bias = parts
        (outs, ins), (by_output, by_input) = weight.shape, weight.stride()
        adds = any(layer.target == target for layer in self.layers)
        places, known = (self.places[weight], self.places[bias]), ACTIVATIONS[act].kernel_code
        self.layers.append(
            Layer(source, target, *places, ins, outs, by_input, by_output, adds, known)
        )


def ends_of(forms: Sequence[DenseForm], like: Tensor) -> Tensor:
    """(N, 2, D): where outputs end, below and above; anything where they do not."""
    if forms[0].limit is None:
        return like
    return torch.stack([form.ends(like) for form in forms])


def is_told(step: ClosedStep, *heads: type[Head]) -> bool:
    """Whether a step is told by numbers alone: one of these heads, no noise, one precision."""
    has_codes = all(a.kernel_code is not None for a in step.form.activations)
    return has_codes and isinstance(step.head, heads) and not step.draws and not step.bf16


def settings_of(stride: Stride, *, learning: bool = True) -> list[float]:
    """What a kernel asks of a network's losses and its Adam, by its place there.

    Outputs leak over their ends only while it is `learning`. Of losses but the squared error no
    kernel asks anything.
    """
    group, form, norm = stride.optimizer.param_groups[0], stride.step.form, stride.plan.clip_norm
    head = stride.step.head
    leak = 0.0 if form.limit is None or not learning else form.limit.LEAK
    share, betas = head.share if isinstance(head, SquaredHead) else math.nan, group["betas"]
    # 1 - beta, and the logarithm of beta: each is exact where the other is not.
    fresh = [1 - beta for beta in betas]
    logs = [math.log(beta) if beta else -math.inf for beta in betas]
    clip = math.inf if norm is None else float(norm)
    decay, matrices = float(group["weight_decay"]), float(stride.step.store.matrices)
    return [clip, decay, share, leak, matrices, *fresh, *logs, group["eps"]]


def tile(size: int) -> int:
    """The power of two, from 16 on, that holds so many."""
    return max(FEWEST, 1 << (size - 1).bit_length())
