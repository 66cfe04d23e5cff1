"""Layer-sequential unit variance: a random start in which no layer lets the rows fade."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.data import sampled
from isthmus.kinds.blocks import Stack
from isthmus.pretraining.base import Job, Pretraining, Record, mixed
from isthmus.pretraining.greedy import Ladder

ROWS = 512
FAINTEST = 1e-6
"""A layer that makes less of the rows than this is left as it is: they do not vary there."""


@dataclass(kw_only=True)
class LSUV(Pretraining):
    """Orthogonal weights, scaled layer by layer (Mishkin and Matas 2016).

    What each layer makes of up to 512 training rows, before the activation, then has unit variance
    and each of its units mean zero; so the rows neither fade nor explode on their way through many
    layers, whatever the activation. A linear path beside the layers starts at zero. A tied layer
    keeps its weight, which is another's.
    """

    def run(self, job: Job) -> list[Record]:
        """Draw and scale the weights; RequestError for a network without hidden layers."""
        ladder = Ladder(job, "lsuv")
        torch.manual_seed(mixed(job.seed, 0))
        job.network.reset_nonlinear()
        job.network.eval()  # no dropout
        x = ladder.below(0, job.train.take(sampled(job.train, ROWS)))
        code = job.network.code_activation(_through(ladder.encoder, x))
        _through(ladder.decoder, code)
        return []


@torch.no_grad()
def _through(stack: Stack, x: Tensor) -> Tensor:
    """What the last layer makes of a batch, every layer having been scaled by it."""
    for i in range(stack.depth - 1):
        _scale(stack, i, x)
        x = stack.bend(stack.layer(i, x))
    _scale(stack, stack.depth - 1, x)
    return stack.layer(stack.depth - 1, x)


def _scale(stack: Stack, i: int, x: Tensor) -> None:
    affine: Any = stack.affine(i)
    own = hasattr(affine, "weight")
    if own:
        nn.init.orthogonal_(affine.weight)
    nn.init.zeros_(affine.bias)
    made = _made(stack, i, x)
    mean = made.mean(dim=1)
    spread_out = float((made - mean[:, None]).square().mean().sqrt())
    scale = 1 / spread_out if own and spread_out > FAINTEST else 1.0
    if own:
        affine.weight.mul_(scale)
    affine.bias.copy_(-scale * mean)


def _made(stack: Stack, i: int, x: Tensor) -> Tensor:
    """(units or channels, all values): what the affine module of layer i gives for a batch."""
    found: list[Tensor] = []
    handle = stack.affine(i).register_forward_hook(lambda *call: found.append(call[2]))
    try:
        stack.layer(i, x)
    finally:
        handle.remove()
    return found[0].transpose(0, 1).flatten(1)
