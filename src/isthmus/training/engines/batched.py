"""Steps of several networks of the same form as batched matrix products."""

# Shape letters: N networks, P weights of each, B rows in a batch, D features.

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from isthmus.randomness import reseed
from isthmus.training.engines.base import StepBatch, Terms
from isthmus.training.engines.dense.adam_state import AdamBuffers, FlatAdam, adam_step
from isthmus.training.engines.dense.losses import SquaredLoss
from isthmus.training.engines.dense.matmul import BatchedMatMul
from isthmus.training.engines.dense.passes import Passes, plan_passes
from isthmus.training.grad_clip import EPSILON, norms


def batch_key(adam: FlatAdam, steps: StepBatch) -> Hashable:
    """A key that is equal for fits whose steps can be taken as one batch."""
    form, flat, group = adam.step.form, adam.step.flat_parameters, adam.group
    path = form.linear is not None, len(form.encoder), len(form.decoder), form.limit is None
    layers = form.activation, form.code_activation, form.dropout, form.code_dropout
    shapes = tuple(tuple(parameter.shape) for parameter in flat.parameters)
    settings = tuple(group["betas"]), group["eps"], adam.plan.clip_norm is None
    method = type(adam.optimizer), *settings
    place, loss = (flat.values.dtype, flat.values.device), adam.step.loss
    terms = loss.has_code_grad, len(loss.grad_parameters), loss.penalty_names
    return path, layers, shapes, method, tuple(steps.sizes), place, terms


class BatchedSteps:
    """The Adam states of N fits with equal keys; their weights become rows of one buffer."""

    def __init__(self, adams: Sequence[FlatAdam]) -> None:
        self.adams = list(adams)
        self.steps = [adam.step for adam in adams]
        first = self.steps[0].flat_parameters
        self.flat, self.n_decayed = first, first.n_decayed
        size = len(adams), len(first.values)
        self.values, self.grads, self.means, self.squares = (
            first.values.new_zeros(size) for _ in range(4)
        )
        for step, values, grads in zip(self.steps, self.values, self.grads, strict=True):
            step.relocate(values, grads)
        squared = [step.loss for step in self.steps if isinstance(step.loss, SquaredLoss)]
        same = len(squared) == len(adams) and len({loss.share for loss in squared}) == 1
        self.loss = squared[0] if same else None
        self.is_random = any(step.is_random for step in self.steps)
        self._passes_of_size: dict[int, Passes] = {}

    @torch.no_grad()
    def __call__(self, batches: Sequence[StepBatch]) -> list[Terms]:
        """Take the steps; return each network's terms before its step, summed over all rows."""
        self._adopt()
        names, values = list[str](), list[Tensor]()
        batches = [steps.gathered() for steps in batches]
        rows, weights = [steps.batches for steps in batches], [steps.weights for steps in batches]
        for number in range(len(rows[0])):
            x, weight = [each[number] for each in rows], [each[number] for each in weights]
            terms = self._forward_backward([steps.seeds[number] for steps in batches], x, weight)
            names = list(terms)
            values.append(torch.stack(list(terms.values())))
            self._update([steps.rates[number] for steps in batches])
        for adam in self.adams:
            adam.publish()
        sizes = torch.tensor(batches[0].sizes, dtype=torch.float64)
        # (N, terms): one transfer for all numbers.
        sums = torch.tensordot(sizes.to(self.values.device), torch.stack(values).double(), 1)
        return [dict(zip(names, row, strict=True)) for row in sums.mT.tolist()]

    def _adopt(self) -> None:
        for adam, mean, square in zip(self.adams, self.means, self.squares, strict=True):
            adam.step.flat_parameters.reclaim()
            if adam.adopt()[0].data_ptr() != mean.data_ptr():
                adam.relocate(mean.zero_(), square.zero_())

    def _forward_backward(
        self, seeds: Sequence[int], batches: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The terms (N,) of one step; the gradients are left in the buffer."""
        passes = self._passes(len(batches[0]))
        if self.is_random:
            for number, (step, seed, x) in enumerate(zip(self.steps, seeds, batches, strict=True)):
                reseed(seed, x.device)
                step.load_batch(passes.of_network(number), x)
        else:
            torch.stack([x.flatten(1) for x in batches], out=passes.seen.value)
        for operation in passes.forward:
            operation()
        terms = self._terms(passes, batches, weights)
        for operation in passes.backward:
            operation()
        return terms

    def _terms(
        self, passes: Passes, batches: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        if self.loss is not None:
            rows = passes.seen.value
            if self.is_random:
                rows = torch.stack([x.flatten(1) for x in batches])
            equal = all(weight.stride(0) == 0 for weight in weights)
            stacked = None if equal else torch.stack(list(weights))
            return self.loss.error_and_grad(passes, rows, stacked)
        inputs = enumerate(zip(self.steps, batches, weights, strict=True))
        each = [
            step.loss(passes.of_network(number), x, weight) for number, (step, x, weight) in inputs
        ]
        return {
            name: torch.stack([torch.as_tensor(terms[name]) for terms in each]) for name in each[0]
        }

    def _update(self, rates: Sequence[float]) -> None:
        """Clip the gradients, decay the weights and take a step of Adam; rates may differ."""
        self._clip()
        groups = [adam.group for adam in self.adams]
        decays = [group["weight_decay"] for group in groups]
        if any(decays) and self.adams[0].is_adamw:
            shrink = [1 - rate * decay for rate, decay in zip(rates, decays, strict=True)]
            self.values[:, : self.n_decayed].mul_(self.values.new_tensor(shrink)[:, None])
        elif any(decays):
            decay = self.values.new_tensor(decays)[:, None]
            self.grads[:, : self.n_decayed].addcmul_(self.values[:, : self.n_decayed], decay)
        for adam in self.adams:
            adam.count += 1
        counts = [adam.count for adam in self.adams]
        if len(set(rates)) == 1 and len(set(map(float, counts))) == 1:
            together = AdamBuffers(self.values, self.grads, self.means, self.squares, counts[0])
            adam_step(together, rates[0], groups[0])
            return
        rows = zip(self.values, self.grads, self.means, self.squares, counts, strict=True)
        for row, rate in zip(rows, rates, strict=True):
            adam_step(AdamBuffers(*row), rate, groups[0])

    def _clip(self) -> None:
        if self.adams[0].plan.clip_norm is None:
            return
        max_norms = self.values.new_tensor([adam.plan.clip_norm for adam in self.adams])
        share = max_norms / (norms(self.grads) + EPSILON)
        # Also if it is NaN, as for a single fit.
        self.grads.mul_(torch.where(share >= 1, 1.0, share)[:, None])

    def _passes(self, batch: int) -> Passes:
        if batch not in self._passes_of_size:
            forms, loss = [step.form for step in self.steps], self.steps[0].loss
            self._passes_of_size[batch] = plan_passes(
                forms,
                batch,
                self.flat.views_in(self.values, self.grads),
                BatchedMatMul(),
                code_grad=loss.has_code_grad,
                extra=loss.grad_parameters,
            )
        return self._passes_of_size[batch]
