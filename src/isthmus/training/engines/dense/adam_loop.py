"""Many steps of Adam in one go, on weights that lie in one stretch of memory."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.randomness import reseed
from isthmus.training.engines.base import Judge, Most, Steps, Terms, summed
from isthmus.training.engines.dense.flat_parameters import Flat
from isthmus.training.engines.dense.step import ClosedStep
from isthmus.training.grad_clip import clipper
from isthmus.training.plan import Plan

MEAN, SQUARE, STEP = "exp_avg", "exp_avg_sq", "step"
"""What torch's Adam calls the parts of its state."""


class Moved(NamedTuple):
    """What a step of Adam moves: buffers (P,) of one network, or (N, P), and the steps so far.

    These are one number, or (N,) where each network has its own.
    """

    values: Tensor
    slopes: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor


class Stride:
    """Steps of torch's Adam or AdamW on the closed form of a network.

    The same weights as step by step within rounding. What the optimizer remembers stays in its own
    `state`, so that it can be saved, loaded and gone on from in either way.
    """

    engine = "closed form, many at a time"
    most = Most(batches=64, nbytes=1 << 20)
    """Rows that stay in a cache from where they are taken to where they are used."""

    @property
    def judge(self) -> Judge | None:
        """What judges rows faster than the network, if anything."""
        return None

    def __init__(self, step: ClosedStep, optimizer: torch.optim.Optimizer, plan: Plan) -> None:
        self.step, self.optimizer, self.plan = step, optimizer, plan
        self.moments: tuple[Flat, Tensor, Tensor] | None = None
        self.count = torch.zeros(())

    @torch.no_grad()
    @np.errstate(all="ignore")
    def __call__(self, steps: Steps) -> Terms:
        """Every term as it was before its step, summed over all rows."""
        flat, steps = self.step.store, steps.gathered()
        flat.gather()
        advance, found = self.advance(flat, *self.adopt()), list[Terms]()
        for x, weight, rate, seed in zip(
            steps.batches, steps.weights, steps.rates, steps.seeds, strict=True
        ):
            if self.step.draws:
                reseed(seed, x.device)
            found.append(self.passed(x, weight))
            advance(rate)
        self.end()
        return summed(found, steps.sizes)

    def passed(self, x: Tensor, weight: Tensor) -> Terms:
        """The terms of a batch (B, *shape) with weights (B,); its slopes are left for `advance`."""
        return self.step.passed(x, weight)

    def anew(self) -> Self:
        """The same, which has found no memory yet: what is bound to it is made when it is needed.

        Nothing is lost: moments, now each in memory of its own, and the steps so far are in the
        optimizer.
        """
        for state in self.optimizer.state.values():
            state |= {name: state[name].clone() for name in (MEAN, SQUARE) if name in state}
        return type(self)(self.step, self.optimizer, self.plan)

    def end(self) -> None:
        """Leave steps, weights and gradients where others look for them."""
        for state in self.optimizer.state.values():
            state[STEP].copy_(self.count)
        self.step.store.attach()

    def adopt(self) -> tuple[Tensor, Tensor]:
        """The moments as flat buffers (P,) that the optimizer's own state is views of."""
        flat = self.step.store
        first = self.optimizer.state.get(flat.parameters[0], {})
        if self.moments is not None:
            held, mean, square = self.moments
            # A state that was loaded, or none at all after a rescue, is not in these buffers.
            if held is flat and MEAN in first and first[MEAN].data_ptr() == mean.data_ptr():
                self.count.copy_(first[STEP])
                return mean, square
        steps = first[STEP] if STEP in first else torch.zeros(())
        self.count = steps.detach().clone().to(flat.values.device)
        return self.remember_in(torch.zeros_like(flat.values), torch.zeros_like(flat.values))

    def remember_in(self, mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        """Take the moments to other buffers (P,), of zeros."""
        flat = self.step.store
        for parameter, one, other in zip(
            flat.parameters, flat.views(mean), flat.views(square), strict=True
        ):
            state = self.optimizer.state[parameter]
            if MEAN in state:
                one.copy_(state[MEAN])
                other.copy_(state[SQUARE])
            state |= {STEP: self.count.clone(), MEAN: one, SQUARE: other}
        self.moments = flat, mean, square
        return mean, square

    def advance(self, flat: Flat, mean: Tensor, square: Tensor) -> Callable[[float | Tensor], None]:
        """What clips slopes and moves weights and moments by a step at some rate."""
        moved = Moved(flat.values, flat.slopes, mean, square, self.count)
        move, clip = self._mover(moved, flat.matrices), clipper(flat.slopes, self.plan.clip_norm)

        def advance(rate: float | Tensor) -> None:
            clip()
            move(rate)

        return advance

    def _mover(self, moved: Moved, matrices: int) -> Callable[[float | Tensor], None]:
        """What moves the weights by a step at some rate; a decay is of matrices alone."""
        group = self.optimizer.param_groups[0]
        decay, apart = group["weight_decay"], isinstance(self.optimizer, torch.optim.AdamW)
        weights, slopes = moved.values[:matrices], moved.slopes[:matrices]

        def move(rate: float | Tensor) -> None:
            if decay and apart:
                weights.mul_(1 - rate * decay)
            elif decay:
                slopes.add_(weights, alpha=decay)
            moved.steps.add_(1)
            adam(moved, rate, group)

        return move


def adam(moved: Moved, rate: float | Tensor, group: Mapping[str, Any]) -> None:
    """Adam's step (Kingma and Ba 2015) without decay, by the other settings of `group`."""
    torch._fused_adam_(
        [moved.values],
        [moved.slopes],
        [moved.mean],
        [moved.square],
        [],
        [moved.steps],
        amsgrad=False,
        lr=rate,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=0.0,
        eps=group["eps"],
        maximize=False,
    )
