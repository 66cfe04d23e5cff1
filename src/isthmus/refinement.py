"""The code that rebuilds a row best, sought from the encoder's answer by quasi-Newton steps.

An encoder answers in one pass, and for a row that it has not learned from, its answer is not the
best one the decoder knows: the amortisation gap (Cremer, Li and Duvenaud 2018). PCA has none, since
its codes are those of least squares. A few steps down the row's own loss close most of it (Kim et
al. 2018, "Semi-amortized variational autoencoders").
"""

# Shape letters: B rows in a batch, D features, K code units, n rows of the sample.

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.types import Network, HasCurvature

DAMPING = 1e-3
"""Share of the mean curvature that is added in all directions of the code."""

PROBES = 4
"""Random signs for each row of the sample: so many draws of its curvature."""

FIRST_STEP = 0.5
"""Share of a Newton step to begin with: a row's own curvature is not that of all rows."""

SHRINK = 0.3
"""What a step is shortened by where the loss rose and its curvature says nothing."""

MEMORY = 10
"""Pairs of steps that are remembered, the last ones."""

LEAST_CURVATURE = 1e-6
"""A pair of step and change of gradient counts where their cosine is above this."""

Values = Callable[[Tensor, Tensor], Tensor]
"""A (B, *shape) raw output and the (B, *shape) rows to a (B,) loss."""


@dataclass
class Pair:
    """A step in the code, and what it did to the gradient."""

    step: Tensor
    """(B, K), zero for rows where it tells nothing."""

    change: Tensor
    """(B, K)."""

    scale: Tensor
    """(B, 1): one over their product, zero where it tells nothing."""


@dataclass
class Refinement:
    """Lowers each row's loss over its code, by L-BFGS without a line search (Nocedal 1980).

    A step that would raise a row's loss is not taken, so that none ever rises. Rows do not know of
    one another.
    """

    network: Network
    loss: Values
    metric: Tensor
    """(K, K): the inverse of the mean curvature of a row's loss in its code."""

    prior: Callable[[Tensor], Tensor] | None = None
    """Codes (B, K) to what they cost beside the loss (B,), where they do."""

    def __call__(self, x: Tensor, code: Tensor, iterations: int) -> Tensor:
        """Codes (B, K) of rows (B, *shape) after so many steps from `code`."""
        with torch.inference_mode(False):
            # What inference mode made has no gradient; copies of it made outside have.
            x, code = (t.clone() if t.is_inference() else t for t in (x, code))
            return self._descended(x, code, iterations)

    def _descended(self, x: Tensor, code: Tensor, iterations: int) -> Tensor:
        value, gradient = self._look(x, code)
        share = torch.full_like(code[:, :1], FIRST_STEP)
        pairs: list[Pair] = []
        for _ in range(iterations):
            step = -share * _downhill(gradient, pairs, self.metric)
            value_there, gradient_there = self._look(x, code + step)
            pairs = [*pairs[1 - MEMORY :], _pair(step, gradient_there - gradient)]
            lower = value_there < value
            known = lower[:, None] | (pairs[-1].scale > 0)
            share = torch.where(known, torch.ones_like(share), SHRINK * share)
            value = torch.where(lower, value_there, value)
            code = torch.where(lower[:, None], code + step, code)
            gradient = torch.where(lower[:, None], gradient_there, gradient)
        return code

    @torch.enable_grad()
    def _look(self, x: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) losses and their (B, K) gradients."""
        at = code.detach().requires_grad_()
        values = self.loss(self.network.decode(at), x)
        if self.prior is not None:
            values = values + self.prior(at)
        (gradient,) = torch.autograd.grad(values.sum(), at)
        return values.detach(), gradient


def _downhill(gradient: Tensor, pairs: list[Pair], metric: Tensor) -> Tensor:
    """The inverse curvature, as the metric and the pairs tell it, times the gradient (B, K)."""
    shares = []
    for pair in reversed(pairs):
        shares.append(pair.scale * (pair.step * gradient).sum(dim=1, keepdim=True))
        gradient = gradient - shares[-1] * pair.change
    way = gradient @ metric
    for pair, share in zip(pairs, reversed(shares), strict=True):
        back = pair.scale * (pair.change * way).sum(dim=1, keepdim=True)
        way = way + (share - back) * pair.step
    return way


def _pair(step: Tensor, change: Tensor) -> Pair:
    product = (step * change).sum(dim=1, keepdim=True)
    size = step.norm(dim=1, keepdim=True) * change.norm(dim=1, keepdim=True)
    tells = product > LEAST_CURVATURE * size
    return Pair(
        torch.where(tells, step, torch.zeros_like(step)),
        torch.where(tells, change, torch.zeros_like(change)),
        torch.where(tells, 1 / product, torch.zeros_like(product)),
    )


@torch.enable_grad()
def inverse_curvature(network: Network, loss: HasCurvature, x: Tensor, seed: int) -> Tensor:
    """(K, K): the inverse of the mean over rows (n, *shape) of J' C J / D, damped.

    J (D, K) is the decoder's Jacobian at a row's code and C the loss's curvature: the generalised
    Gauss-Newton matrix (Schraudolph 2002). Random signs s make (J' C^1/2 s)(J' C^1/2 s)' an
    unbiased draw of it, for one backward pass each.
    """
    code = network.encode(x).detach().requires_grad_()
    raw = network.decode(code)
    root = (loss.curvature(raw) / raw[0].numel()).sqrt().detach()
    generator = torch.Generator().manual_seed(seed)
    curved = code.new_zeros(code.shape[1], code.shape[1])
    for _ in range(PROBES):
        signs = torch.randint(0, 2, raw.shape, generator=generator).to(raw) * 2 - 1
        (draw,) = torch.autograd.grad((raw * root * signs).sum(), code, retain_graph=True)
        curved += draw.t() @ draw / (PROBES * len(x))
    floor = max(DAMPING * float(curved.diagonal().mean()), torch.finfo(torch.float32).tiny ** 0.5)
    floor_matrix = floor * torch.eye(len(curved), dtype=curved.dtype, device=curved.device)
    inverse: Tensor = torch.linalg.inv((curved + floor_matrix).double())
    # Row by row, as a saved model gives it back: products add up in the order of the memory.
    return inverse.to(curved.dtype).contiguous()
