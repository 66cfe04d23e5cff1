"""Adam and AdamW on flat buffers, with the state kept in torch's own optimizer."""

# Shape letters: P numbers in a buffer, N networks of a batch of networks.

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isthmus._compat import fused_adam
from isthmus.randomness import reseed
from isthmus.training.engines.base import StepBatch, Terms, sum_terms
from isthmus.training.engines.dense.flat_parameters import FlatParameters
from isthmus.training.engines.dense.step import ManualStep
from isthmus.training.grad_clip import make_clipper
from isthmus.training.plan import Plan

MEAN, SQUARE, STEP = "exp_avg", "exp_avg_sq", "step"
"""The keys of torch's Adam state."""

Update = Callable[[float | Tensor], None]
"""Updates the weights at a learning rate."""


class AdamBuffers(NamedTuple):
    """Buffers that an Adam step updates: (P,) for one network or (N, P) for several."""

    values: Tensor
    grads: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor
    """Steps so far: a scalar, or (N,)."""


class FlatAdam:
    """The state of torch's Adam or AdamW as flat buffers over the weights of a `ManualStep`.

    The optimizer's own `state` holds views of these buffers. So it can be saved and loaded, and
    training can go on with any other engine.
    """

    def __init__(self, step: ManualStep, optimizer: torch.optim.Optimizer, plan: Plan) -> None:
        self.step, self.optimizer, self.plan = step, optimizer, plan
        self.count = torch.zeros(())
        """Steps so far."""

        self._moments: tuple[FlatParameters, Tensor, Tensor] | None = None

    @property
    def group(self) -> dict[str, Any]:
        """The optimizer's settings (lr, betas, eps, weight_decay)."""
        return self.optimizer.param_groups[0]

    @property
    def is_adamw(self) -> bool:
        """Whether weight decay is decoupled from the gradient."""
        return isinstance(self.optimizer, torch.optim.AdamW)

    def adopt(self) -> tuple[Tensor, Tensor]:
        """The first and second moments as flat buffers (P,) that the optimizer's state views."""
        flat = self.step.flat_parameters
        first = self.optimizer.state.get(flat.parameters[0], {})
        if self._moments is not None:
            owner, mean, square = self._moments
            # State that was loaded, or cleared after divergence, is not in these buffers.
            if owner is flat and MEAN in first and first[MEAN].data_ptr() == mean.data_ptr():
                self.count.copy_(first[STEP])
                return mean, square
        steps = first[STEP] if STEP in first else torch.zeros(())
        self.count = steps.detach().clone().to(flat.values.device)
        return self.relocate(torch.zeros_like(flat.values), torch.zeros_like(flat.values))

    def relocate(self, mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        """Move the moments to other buffers (P,), which hold zeros."""
        flat = self.step.flat_parameters
        for parameter, mean_view, square_view in zip(
            flat.parameters, flat.views(mean), flat.views(square), strict=True
        ):
            state = self.optimizer.state[parameter]
            if MEAN in state:
                mean_view.copy_(state[MEAN])
                square_view.copy_(state[SQUARE])
            state |= {STEP: self.count.clone(), MEAN: mean_view, SQUARE: square_view}
        self._moments = flat, mean, square
        return mean, square

    def take_each(
        self, steps: StepBatch, run: Callable[[Tensor, Tensor], Terms], update: Update
    ) -> Terms:
        """Every term before its step, summed over all rows; `run` maps a batch to its terms."""
        terms = list[Terms]()
        for x, weight, rate, seed in zip(
            steps.batches, steps.weights, steps.rates, steps.seeds, strict=True
        ):
            if self.step.is_random:
                reseed(seed, x.device)
            terms.append(run(x, weight))
            update(rate)
        return sum_terms(terms, steps.sizes)

    def publish(self) -> None:
        """Write the step count to the optimizer's state, and attach the gradients."""
        for state in self.optimizer.state.values():
            state[STEP].copy_(self.count)
        self.step.flat_parameters.attach_grads()

    def detached(self) -> "FlatAdam":
        """A copy without buffers; the moments in the optimizer's state get memory of their own."""
        for state in self.optimizer.state.values():
            state |= {name: state[name].clone() for name in (MEAN, SQUARE) if name in state}
        return FlatAdam(self.step, self.optimizer, self.plan)

    def make_update(self, flat: FlatParameters, mean: Tensor, square: Tensor) -> Update:
        """A function that clips the gradients and updates weights and moments."""
        buffers = AdamBuffers(flat.values, flat.grads, mean, square, self.count)
        clip = make_clipper(flat.grads, self.plan.clip_norm)
        group, is_adamw, decay = self.group, self.is_adamw, self.group["weight_decay"]
        weights, grads = flat.values[: flat.n_decayed], flat.grads[: flat.n_decayed]

        def update(rate: float | Tensor) -> None:
            clip()
            if decay and is_adamw:
                weights.mul_(1 - rate * decay)
            elif decay:
                grads.add_(weights, alpha=decay)
            buffers.steps.add_(1)
            adam_step(buffers, rate, group)

        return update


def adam_step(buffers: AdamBuffers, rate: float | Tensor, group: Mapping[str, Any]) -> None:
    """One step of Adam (Kingma and Ba 2015) without weight decay, in place."""
    fused_adam()(
        [buffers.values],
        [buffers.grads],
        [buffers.mean],
        [buffers.square],
        [],
        [buffers.steps],
        amsgrad=False,
        lr=rate,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=0.0,
        eps=group["eps"],
        maximize=False,
    )
