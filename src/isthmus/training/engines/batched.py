"""Steps of several networks of one form, taken by the same products of stacks of matrices."""

# Shape letters: N networks, P weights of each, B rows in a batch, D features.

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from isthmus.randomness import reseed
from isthmus.training.engines.base import Steps, Terms
from isthmus.training.engines.cuda.fused import Kernel, suits
from isthmus.training.engines.dense.adam_loop import Moved, Stride, adam
from isthmus.training.engines.dense.losses import SquaredHead, named
from isthmus.training.engines.dense.matmul import OfStacks
from isthmus.training.engines.dense.passes import Passes, passes_of
from isthmus.training.grad_clip import TINY, norms


def likeness(stride: Stride, steps: Steps) -> Hashable:
    """What two strides must have in common to be taken as a stack."""
    form, flat, group = stride.step.form, stride.step.store, stride.optimizer.param_groups[0]
    path = form.linear is not None, len(form.encoder), len(form.decoder), form.limit is None
    ways = form.activation, form.code_activation, form.dropout, form.code_dropout
    shapes = tuple(tuple(parameter.shape) for parameter in flat.parameters)
    method = (
        type(stride.optimizer),
        tuple(group["betas"]),
        group["eps"],
        stride.plan.clip_norm is None,
    )
    sizes = tuple(steps.sizes)
    place, head = (flat.values.dtype, flat.values.device), stride.step.head
    terms = head.of_code, len(head.of_layer), head.penalties
    return path, ways, shapes, method, sizes, place, terms


class Stack:
    """Strides of the same likeness as one: their weights are rows of one buffer from now on."""

    def __init__(self, strides: Sequence[Stride]) -> None:
        self.strides = list(strides)
        self.steps = [stride.step for stride in strides]
        like = self.steps[0].store
        self.flat, self.matrices = like, like.matrices
        size = len(strides), len(like.values)
        self.values, self.slopes, self.means, self.squares = (
            like.values.new_zeros(size) for _ in range(4)
        )
        for step, values, slopes in zip(self.steps, self.values, self.slopes, strict=True):
            step.move(values, slopes)
        squared = [step.head for step in self.steps if isinstance(step.head, SquaredHead)]
        alike = len(squared) == len(strides) and len({head.share for head in squared}) == 1
        self.head = squared[0] if alike else None
        self.draws = any(step.draws for step in self.steps)
        fits = suits(self.steps, [stride.plan for stride in strides])
        self.kernel = Kernel(self.strides) if fits else None
        self.kept: dict[int, Passes] = {}

    @torch.no_grad()
    def __call__(self, asked: Sequence[Steps]) -> list[Terms]:
        """For each network every term as it was before its step, summed over all rows."""
        for step, stride, mean, square in zip(
            self.steps, self.strides, self.means, self.squares, strict=True
        ):
            step.store.gather()
            if stride.adopt()[0].data_ptr() != mean.data_ptr():
                stride.remember_in(mean.zero_(), square.zero_())
        if self.kernel is not None:
            return self._by_kernel(self.kernel, asked)
        names, found = list[str](), list[Tensor]()
        asked = [steps.gathered() for steps in asked]
        batches, weights = [steps.batches for steps in asked], [steps.weights for steps in asked]
        for number in range(len(batches[0])):
            x, weight = [one[number] for one in batches], [one[number] for one in weights]
            terms = self._passed([steps.seeds[number] for steps in asked], x, weight)
            names = list(terms)
            found.append(torch.stack(list(terms.values())))
            self._move([steps.rates[number] for steps in asked])
        for stride in self.strides:
            stride.end()
        sizes = torch.tensor(asked[0].sizes, dtype=torch.float64)
        # (N, terms): one look at all numbers, not one at each.
        told = torch.tensordot(sizes.to(self.values.device), torch.stack(found).double(), 1)
        return [dict(zip(names, row, strict=True)) for row in told.mT.tolist()]

    def _by_kernel(self, kernel: Kernel, asked: Sequence[Steps]) -> list[Terms]:
        counts = torch.stack([stride.count for stride in self.strides])
        moved = Moved(self.values, self.slopes, self.means, self.squares, counts)
        told = kernel(asked, moved)
        for stride, count in zip(self.strides, counts, strict=True):
            stride.count.copy_(count)
            stride.end()
        return [named(step.head, each) for step, each in zip(self.steps, told, strict=True)]

    def _passed(
        self, seeds: Sequence[int], batches: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The terms (N,) of one step; gradients are left in the slopes."""
        passes = self._passes(len(batches[0]))
        if self.draws:
            for at, (step, seed, x) in enumerate(zip(self.steps, seeds, batches, strict=True)):
                reseed(seed, x.device)
                step.feed(passes.of(at), x)
        else:
            torch.stack([x.flatten(1) for x in batches], out=passes.seen.value)
        for work in passes.forward:
            work()
        terms = self._judged(passes, batches, weights)
        for work in passes.backward:
            work()
        return terms

    def _judged(
        self, passes: Passes, batches: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        if self.head is not None:
            rows = passes.seen.value
            if self.draws:
                rows = torch.stack([x.flatten(1) for x in batches])
            equal = all(weight.stride(0) == 0 for weight in weights)
            return self.head.judged(passes, rows, None if equal else torch.stack(list(weights)))
        each = [
            step.head(passes.of(at), x, weight)
            for at, (step, x, weight) in enumerate(zip(self.steps, batches, weights, strict=True))
        ]
        return {
            name: torch.stack([torch.as_tensor(terms[name]) for terms in each]) for name in each[0]
        }

    def _move(self, rates: Sequence[float]) -> None:
        """Clip, decay, and Adam; the rates may differ."""
        self._clip()
        groups = [stride.optimizer.param_groups[0] for stride in self.strides]
        decays = [group["weight_decay"] for group in groups]
        if any(decays) and isinstance(self.strides[0].optimizer, torch.optim.AdamW):
            kept = [1 - rate * decay for rate, decay in zip(rates, decays, strict=True)]
            self.values[:, : self.matrices].mul_(self.values.new_tensor(kept)[:, None])
        elif any(decays):
            decay = self.values.new_tensor(decays)[:, None]
            self.slopes[:, : self.matrices].addcmul_(self.values[:, : self.matrices], decay)
        for stride in self.strides:
            stride.count += 1
        if len(set(rates)) == 1 and len({float(stride.count) for stride in self.strides}) == 1:
            count = self.strides[0].count
            whole = Moved(self.values, self.slopes, self.means, self.squares, count)
            adam(whole, rates[0], groups[0])
            return
        counts = [stride.count for stride in self.strides]
        parts = zip(self.values, self.slopes, self.means, self.squares, counts, strict=True)
        for each, rate in zip(parts, rates, strict=True):
            adam(Moved(*each), rate, groups[0])

    def _clip(self) -> None:
        if self.strides[0].plan.clip_norm is None:
            return
        most = self.values.new_tensor([stride.plan.clip_norm for stride in self.strides])
        share = most / (norms(self.slopes) + TINY)
        # Also where it is not a number, as `Stride` does.
        self.slopes.mul_(torch.where(share >= 1, 1.0, share)[:, None])

    def _passes(self, batch: int) -> Passes:
        if batch not in self.kept:
            places = self.flat.places_in(self.values, self.slopes)
            forms, head = [step.form for step in self.steps], self.steps[0].head
            self.kept[batch] = passes_of(
                forms,
                batch,
                places,
                OfStacks(),
                code_slope=head.of_code,
                extra=head.of_layer,
            )
        return self.kept[batch]
