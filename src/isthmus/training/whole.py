"""Steps of small networks on a GPU, each network by one program of a kernel that takes them all.

What such a network does in a step takes a GPU less time than to begin anything: so everything from
rows to Adam is one kernel, which goes on with the next step by itself. A GPU has room for a hundred
such programs at a time.
"""

# Shape letters: N networks, K steps, B rows in a batch, D features, P weights.

import importlib.util
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from isthmus.data.batches import sent
from isthmus.losses import RECONSTRUCTION
from isthmus.training.closed import ClosedStep
from isthmus.training.heads import SquaredHead
from isthmus.training.plan import Plan
from isthmus.training.slots import ends_of, layers_of, tile
from isthmus.training.step import Steps, Terms
from isthmus.training.stride import Stride

MOST_ROWS, MOST_WIDTH, MOST_WORK, BLOCK = 128, 128, 8192, 1024

FEWEST_STEPS = 20_000
"""Of all networks together, for which it pays to load what compiles kernels. To compile this one
takes longer, but once on a machine."""


class Moving(NamedTuple):
    """What the kernel moves: weights and moments (N, P), and the steps so far (N,)."""

    values: Tensor
    slopes: Tensor
    mean: Tensor
    square: Tensor
    counts: Tensor


class Kernel:
    """The kernel for strides of one form, whose Adams may differ in their settings."""

    def __init__(self, strides: Sequence[Stride]) -> None:
        steps, self.strides = [stride.step for stride in strides], strides
        store, form = steps[0].store, steps[0].form
        self.like, layers = store.values, layers_of(form, store)
        device, self.count = self.like.device, len(layers)
        self.layers = torch.tensor(layers, dtype=torch.int32, device=device)
        self.ends = ends_of([step.form for step in steps], self.like)
        self.limited = form.limit is not None
        self.settings = torch.tensor(
            [_settings(stride, store.matrices) for stride in strides], device=device
        )
        self.slots = 1 + max(layer.target for layer in layers)
        self.rows = tile(max(stride.plan.batch_size for stride in strides))
        self.wide = tile(max(max(layer.ins, layer.outs) for layer in layers))
        size = len(strides), self.slots, 3, self.rows, self.wide
        self.scratch = self.like.new_zeros(size)

    def __call__(self, asked: Sequence[Steps], moving: Moving) -> Tensor:
        """The squared error (N,) of K steps, each before it was taken, summed over all rows."""
        sizes, told = asked[0].sizes, list[Tensor]()
        rates = sent(torch.tensor([steps.rates for steps in asked]), self.like.device)
        for run in runs(sizes):
            rows = torch.stack([_stacked(steps.batches[run]) for steps in asked])
            equal = all(steps.weights[run.start].stride(0) == 0 for steps in asked)
            weights = rows if equal else torch.stack([_stacked(s.weights[run]) for s in asked])
            found = self._launched(
                rows, weights, rates[:, run].contiguous(), moving, weighs=not equal
            )
            told.append(found * sizes[run.start])
        return torch.cat(told, 1).double().sum(1)

    def _launched(
        self, rows: Tensor, weights: Tensor, rates: Tensor, moving: Moving, *, weighs: bool
    ) -> Tensor:
        """The squared error (N, K) of steps with rows (N, K, B, D) and their weights (N, K, B)."""
        from isthmus.training import kernels

        fits, many, batch, width = rows.shape
        told = rows.new_empty(fits, many)
        kernels.steps_of[(fits,)](
            self.layers,
            self.settings,
            rows,
            weights,
            *moving,
            self.scratch,
            self.ends,
            rates,
            told,
            many,
            batch,
            width,
            moving.values.shape[-1],
            self.count,
            self.slots,
            ROWS=self.rows,
            WIDE=self.wide,
            WEIGHS=weighs,
            LIMITED=self.limited,
            APART=isinstance(self.strides[0].optimizer, torch.optim.AdamW),
            BLOCK=BLOCK,
            num_warps=4 if self.wide * self.rows <= BLOCK * 4 else 8,
        )
        return told


def _settings(stride: Stride, matrices: int) -> list[float]:
    """What the kernel asks of a network's Adam and losses, by its place there."""
    group, form, norm = stride.optimizer.param_groups[0], stride.step.form, stride.plan.clip_norm
    assert isinstance(stride.step.head, SquaredHead)
    leak = 0.0 if form.limit is None else form.limit.LEAK
    share, betas = stride.step.head.share, group["betas"]
    fresh = [1 - beta for beta in betas]
    logs = [math.log(beta) if beta else -math.inf for beta in betas]
    clip = math.inf if norm is None else float(norm)
    decay = float(group["weight_decay"])
    return [clip, decay, share, leak, float(matrices), *fresh, *logs, group["eps"]]


def suits(steps: Sequence[ClosedStep], plans: Sequence[Plan]) -> bool:
    """Whether the kernel can take the steps of networks of one form, and pays."""
    parameters, batch = list(steps[0].network.parameters()), plans[0].batch_size
    if any(not isinstance(one.head, SquaredHead) or one.draws or one.bf16 for one in steps):
        return False
    there = parameters[0].is_cuda and importlib.util.find_spec("triton") is not None
    if not there or parameters[0].dtype != torch.float32:
        return False
    width = max(max(parameter.shape) for parameter in parameters)
    small = width <= MOST_WIDTH and batch <= MOST_ROWS and tile(width) * tile(batch) <= MOST_WORK
    return small and sum(plan.steps for plan in plans) >= FEWEST_STEPS


class ByKernel(Stride):
    """A stride of a small network on a GPU."""

    kernel: Kernel | None = None

    @torch.no_grad()
    def __call__(self, steps: Steps) -> Terms:
        """Every term as it was before its step, summed over all rows; on the device."""
        if max(steps.sizes) > tile(self.plan.batch_size):
            return super().__call__(steps)  # who goes on with a fit may do so in other batches
        flat = self.step.store
        flat.gather()
        mean, square = self.adopt()
        self.kernel = self.kernel or Kernel([self])
        parts = flat.values, flat.slopes, mean, square, self.count
        (told,) = self.kernel([steps], Moving(*(part[None] for part in parts)))
        self.end()
        return named(self.step, told)


def named(step: ClosedStep, told: Tensor) -> dict[str, Tensor]:
    """The terms of a step whose squared error is `told`."""
    silent = {name: torch.zeros_like(told) for name in step.head.penalties}
    return {RECONSTRUCTION: told} | silent


def runs(sizes: Sequence[int]) -> list[slice]:
    """The runs of equal sizes."""
    ends = [at for at in range(1, len(sizes)) if sizes[at] != sizes[at - 1]]
    return [slice(*pair) for pair in zip([0, *ends], [*ends, len(sizes)], strict=True)]


def _stacked(batches: Sequence[Tensor]) -> Tensor:
    """(K, B, D) of rows, (K, B) of weights."""
    return torch.stack([x.flatten(1) if x.ndim > 1 else x for x in batches])
