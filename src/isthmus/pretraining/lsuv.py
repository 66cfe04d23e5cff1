"""Layer-sequential unit variance: random weights that keep the variance in every layer."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.data.loading.rows import sample_positions
from isthmus.kinds.blocks import Stack
from isthmus.pretraining.base import Pretraining, PretrainingJob, PretrainingRecord, position_seed
from isthmus.pretraining.greedy import LayerPairs

ROWS = 512
MIN_STD = 1e-6
"""A layer whose output varies less than this is not scaled."""


@dataclass(kw_only=True)
class LSUV(Pretraining):
    """Orthogonal weights, scaled layer by layer (Mishkin and Matas 2016).

    The output of each layer for up to 512 training rows, before the activation, then has unit
    variance, and each unit has mean zero. Signals therefore neither vanish nor explode in many
    layers, for any activation. A parallel linear path starts at zero. A tied layer keeps the weight
    that it shares.

    Example:
        >>> from isthmus.pretraining import LSUV
        >>> LSUV().to_json()
        {'type': 'LSUV'}
    """

    def run(self, job: PretrainingJob) -> list[PretrainingRecord]:
        """Draw and scale the weights; RequestError for a network without hidden layers."""
        pairs = LayerPairs(job, "lsuv")
        torch.manual_seed(position_seed(job.seed, 0))
        job.network.reset_nonlinear()
        job.network.eval()  # no dropout
        x = pairs.inputs(0, job.train.take(sample_positions(job.train, ROWS)))
        code = job.network.code_activation(_through(pairs.encoder, x))
        _through(pairs.decoder, code)
        return []


@torch.no_grad()
def _through(stack: Stack, x: Tensor) -> Tensor:
    """The output of the last layer for a batch, after scaling every layer by it."""
    for i in range(stack.depth - 1):
        _scale(stack, i, x)
        x = stack.activate(stack.layer(i, x))
    _scale(stack, stack.depth - 1, x)
    return stack.layer(stack.depth - 1, x)


def _scale(stack: Stack, i: int, x: Tensor) -> None:
    affine: Any = stack.affine(i)
    has_weight = hasattr(affine, "weight")
    if has_weight:
        nn.init.orthogonal_(affine.weight)
    nn.init.zeros_(affine.bias)
    outputs = _outputs(stack, i, x)
    mean = outputs.mean(dim=1)
    spread_out = float((outputs - mean[:, None]).square().mean().sqrt())
    scale = 1 / spread_out if has_weight and spread_out > MIN_STD else 1.0
    if has_weight:
        affine.weight.mul_(scale)
    affine.bias.copy_(-scale * mean)


def _outputs(stack: Stack, i: int, x: Tensor) -> Tensor:
    """(units or channels, all values): the output of the affine module of layer i."""
    outputs: list[Tensor] = []
    handle = stack.affine(i).register_forward_hook(lambda *call: outputs.append(call[2]))
    try:
        stack.layer(i, x)
    finally:
        handle.remove()
    return outputs[0].transpose(0, 1).flatten(1)
