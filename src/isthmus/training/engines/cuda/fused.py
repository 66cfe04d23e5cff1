"""Steps of small networks on a GPU, each network by one program of a kernel that takes them all.

What such a network does in a step takes a GPU less time than to begin anything: so everything from
rows to Adam is one kernel, which goes on with the next step by itself. A GPU has room for a hundred
such programs at a time.
"""

# Shape letters: N networks, K steps, B rows in a batch, D features, P weights.

import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor

from isthmus.data.loading.rows import sent
from isthmus.training.engines.base import Most, Steps, Terms, runs
from isthmus.training.engines.dense.adam_loop import Moved, Stride
from isthmus.training.engines.dense.losses import SquaredHead, named
from isthmus.training.engines.dense.step import ClosedStep
from isthmus.training.engines.layer_table import ends_of, is_told, layers_of, settings_of, tile
from isthmus.training.plan import Plan

MOST_ROWS, MOST_WIDTH, MOST_WORK, BLOCK = 128, 128, 8192, 1024

WARPS, MANY = 4, 4096
"""Groups of threads for products of so many numbers; twice as many for more."""

FEWEST_STEPS = 20_000
"""Of all networks together, for which it pays to load what compiles kernels. To compile this one
takes longer, but once on a machine."""


class Kernel:
    """The kernel for strides of one form, whose Adams may differ in their settings."""

    def __init__(self, strides: Sequence[Stride]) -> None:
        steps, self.strides = [stride.step for stride in strides], strides
        store, form = steps[0].store, steps[0].form
        self.like, layers = store.values, layers_of(form, store)
        device, self.count = self.like.device, len(layers)
        self.layers = torch.tensor(layers, dtype=torch.int32, device=device)
        self.ends = ends_of([step.form for step in steps], self.like)
        self.clamp_output = form.limit is not None
        self.settings = torch.tensor([settings_of(stride) for stride in strides], device=device)
        self.slots = 1 + max(layer.target for layer in layers)
        self.rows = tile(max(stride.plan.batch_size for stride in strides))
        self.wide = tile(max(max(layer.ins, layer.outs) for layer in layers))
        size = len(strides), self.slots, 3, self.rows, self.wide
        self.scratch = self.like.new_zeros(size)

    def __call__(self, asked: Sequence[Steps], moved: Moved) -> Tensor:
        """The squared error (N,) of K steps, each before it was taken, summed over all rows."""
        asked = [steps.gathered() for steps in asked]
        sizes, told, start = asked[0].sizes, list[Tensor](), 0
        rates = sent(torch.tensor([steps.rates for steps in asked]), self.like.device)
        equal = all(steps.equal for steps in asked)
        for many, size in runs(sizes):
            part, first = slice(start, start + many * size), sum(len(found[0]) for found in told)
            rows = torch.stack([s.rows[part].view(many, size, -1) for s in asked])
            weights = rows
            if not equal:
                weights = torch.stack([s.weight[part].view(many, size) for s in asked])
            some = rates[:, first : first + many].contiguous()
            told.append(self._launched(rows, weights, some, moved, weighs=not equal) * size)
            start += many * size
        return torch.cat(told, 1).double().sum(1)

    def _launched(
        self, rows: Tensor, weights: Tensor, rates: Tensor, moved: Moved, *, weighs: bool
    ) -> Tensor:
        """The squared error (N, K) of steps with rows (N, K, B, D) and their weights (N, K, B)."""
        from isthmus.training.engines.cuda import triton_kernels

        fits, many, batch, width = rows.shape
        told = rows.new_empty(fits, many)
        triton_kernels.steps_of[(fits,)](
            self.layers,
            self.settings,
            rows,
            weights,
            *moved,
            self.scratch,
            self.ends,
            rates,
            told,
            many,
            batch,
            width,
            moved.values.shape[-1],
            self.count,
            self.slots,
            ROWS=self.rows,
            WIDE=self.wide,
            WEIGHS=weighs,
            LIMITED=self.clamp_output,
            APART=isinstance(self.strides[0].optimizer, torch.optim.AdamW),
            BLOCK=BLOCK,
            num_warps=WARPS if self.wide * self.rows <= MANY else 2 * WARPS,
        )
        return told


def suits(steps: Sequence[ClosedStep], plans: Sequence[Plan]) -> bool:
    """Whether the kernel can take the steps of networks of one form, and pays."""
    parameters, batch = list(steps[0].network.parameters()), plans[0].batch_size
    if not all(is_told(step, SquaredHead) for step in steps):
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
    engine = "a kernel of the GPU"
    most = Most(batches=256, nbytes=1 << 28)

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
        (told,) = self.kernel([steps], Moved(*(part[None] for part in parts)))
        self.end()
        return named(self.step.head, told)
