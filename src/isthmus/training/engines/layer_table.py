"""A small dense network, its loss bounds and its Adam settings as numbers for the C kernel."""

import math
from typing import NamedTuple

from torch import Tensor, nn

from isthmus.kinds import ACTIVATIONS, DenseForm
from isthmus.training.engines.dense.adam_state import FlatAdam
from isthmus.training.engines.dense.flat_parameters import FlatParameters
from isthmus.training.engines.dense.losses import DenseLoss, SquaredLoss
from isthmus.training.engines.dense.step import ManualStep


class KernelLayer(NamedTuple):
    """A dense layer as the kernel sees it: numbers of activation slots, offsets of weights."""

    source: int
    target: int
    weight: int
    bias: int
    n_inputs: int
    n_outputs: int
    input_stride: int
    """The distance in the buffer of two inputs of one output."""

    output_stride: int
    adds: bool
    """Whether the output is added to what an earlier layer wrote to the target."""

    activation: int
    """The code of the activation."""

    has_grad: bool = False
    """Whether a later layer has the same source, and so has written its gradient already."""


def kernel_layers(form: DenseForm, flat: FlatParameters) -> list[KernelLayer]:
    """The layers in forward order, each with the slots it reads and writes.

    Slot 0 holds the rows. The linear and the nonlinear path to the same values share a slot.
    """
    layers = _SlotPlanner(form, flat).layers
    sources = [layer.source for layer in layers]
    return [
        layer._replace(has_grad=layer.source in sources[index + 1 :])
        for index, layer in enumerate(layers)
    ]


class _SlotPlanner:
    def __init__(self, form: DenseForm, flat: FlatParameters) -> None:
        self.offsets = flat.offsets
        self.form, self.layers, self.last = form, list[KernelLayer](), 0
        linear = form.linear
        encode = decode = None
        if linear is not None:
            assert linear.decode_weight is not None
            encode = linear.encode_weight, linear.encode_bias
            decode = linear.decode_weight.t(), linear.decode_bias  # stored (K, D)
            self.offsets[decode[0]] = self.offsets[linear.decode_weight]
        code = self._paths(0, encode, form.encoder, form.code_activation)
        self._paths(code, decode, form.decoder, "linear")

    def _paths(
        self,
        start: int,
        linear: tuple[Tensor, Tensor] | None,
        layers: tuple[nn.Linear, ...],
        activation: str,
    ) -> int:
        """Add the linear and the nonlinear path from a slot; return the slot where they meet."""
        end = self._new_slot()
        if linear is not None:
            self._add(start, end, linear, "linear" if layers else activation)
        for layer in layers[:-1]:
            hidden = self._new_slot()
            self._add(start, hidden, (layer.weight, layer.bias), self.form.activation)
            start = hidden
        if layers:
            self._add(start, end, (layers[-1].weight, layers[-1].bias), activation)
        return end

    def _new_slot(self) -> int:
        self.last += 1
        return self.last

    def _add(self, source: int, target: int, parts: tuple[Tensor, Tensor], activation: str) -> None:
        """Add a layer with weight (O, I), in any memory order, and bias (O,)."""
        weight, bias = parts
        (n_outputs, n_inputs), (output_stride, input_stride) = weight.shape, weight.stride()
        adds = any(layer.target == target for layer in self.layers)
        offsets, code = (
            (self.offsets[weight], self.offsets[bias]),
            ACTIVATIONS[activation].kernel_code,
        )
        assert code is not None
        shape = n_inputs, n_outputs, input_stride, output_stride
        self.layers.append(KernelLayer(source, target, *offsets, *shape, adds, code))


def output_bounds(form: DenseForm, like: Tensor) -> Tensor:
    """(2, D): the lower and upper bounds of the outputs; any tensor if they have none."""
    return like if form.limit is None else form.ends(like)


def kernel_obstacle(step: ManualStep, *losses: type[DenseLoss]) -> str | None:
    """The reason why the kernel cannot take a step, or None; `losses` are those that it has."""
    if step.is_random:
        return "there is a corruption or dropout"
    if step.bf16:
        return "the precision is bf16"
    if not isinstance(step.loss, losses):
        return "the kernel lacks the loss or a penalty"
    if any(activation.kernel_code is None for activation in step.form.activations):
        return "the kernel lacks the activation"
    return None


def kernel_settings(adam: FlatAdam, *, learning: bool = True) -> list[float]:
    """The settings of the loss and of Adam in the order in which the kernel reads them.

    Outputs leak beyond their bounds only while `learning`.
    """
    step, group, norm = adam.step, adam.group, adam.plan.clip_norm
    leak = 0.0 if step.form.limit is None or not learning else step.form.limit.LEAK
    share = step.loss.share if isinstance(step.loss, SquaredLoss) else math.nan
    betas = group["betas"]
    # 1 - beta, and the logarithm of beta: each is exact where the other is not.
    complements = [1 - beta for beta in betas]
    logs = [math.log(beta) if beta else -math.inf for beta in betas]
    clip = math.inf if norm is None else float(norm)
    decay, n_decayed = float(group["weight_decay"]), float(step.flat_parameters.n_decayed)
    return [clip, decay, share, leak, n_decayed, *complements, *logs, group["eps"]]
