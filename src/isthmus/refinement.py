"""Refinement of codes: quasi-Newton steps from the encoder's code to the best code of each row.

For rows outside of the training set the encoder's code is not the one with the lowest loss. The
difference is the amortization error (Cremer, Li and Duvenaud 2018). PCA has no such error, since
its codes are least-squares solutions. A few steps on the row's own loss remove most of it (Kim et
al. 2018, "Semi-amortized variational autoencoders").
"""

# Shape letters: B rows in a batch, D features, K code units, n rows of the sample.

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.types import HasCurvature, Network

DAMPING = 1e-3
"""Share of the mean curvature that is added in all directions of the code."""

PROBES = 4
"""Random sign vectors per row of the sample, for as many estimates of its curvature."""

FIRST_STEP = 0.5
"""The first step, as a share of a Newton step: each row differs from the mean curvature."""

SHRINK = 0.3
"""The factor that shortens a step if the loss rose and the curvature pair is unusable."""

MEMORY = 10
"""The number of curvature pairs that are kept, the last ones."""

LEAST_CURVATURE = 1e-6
"""A curvature pair is used if the cosine of step and gradient change is above this."""

RowLoss = Callable[[Tensor, Tensor], Tensor]
"""The losses (B,) of a raw output (B, *shape) and rows (B, *shape)."""


@dataclass
class CurvaturePair:
    """A step in the code and the change of the gradient over it."""

    step: Tensor
    """(B, K), zero for rows whose pair is unusable."""

    change: Tensor
    """(B, K)."""

    scale: Tensor
    """(B, 1): one over the dot product of the two, zero for rows whose pair is unusable."""


@dataclass
class Refinement:
    """Minimizes each row's loss over its code, by L-BFGS without a line search (Nocedal 1980).

    A step that would raise a row's loss is rejected, so that no loss rises. Rows are independent.
    """

    network: Network
    loss: RowLoss
    metric: Tensor
    """(K, K): the inverse of the mean curvature of a row's loss in its code."""

    prior: Callable[[Tensor], Tensor] | None = None
    """A further cost (B,) of codes (B, K), if any."""

    def __call__(self, x: Tensor, code: Tensor, iterations: int) -> Tensor:
        """The codes (B, K) of rows (B, *shape) after so many steps from `code`."""
        with torch.inference_mode(False):
            # Tensors of inference mode cannot have gradients, copies can.
            x, code = (t.clone() if t.is_inference() else t for t in (x, code))
            return self._descend(x, code, iterations)

    def _descend(self, x: Tensor, code: Tensor, iterations: int) -> Tensor:
        value, gradient = self._evaluate(x, code)
        share = torch.full_like(code[:, :1], FIRST_STEP)
        pairs: list[CurvaturePair] = []
        for _ in range(iterations):
            step = -share * _direction(gradient, pairs, self.metric)
            new_value, new_gradient = self._evaluate(x, code + step)
            pairs = [*pairs[1 - MEMORY :], _curvature_pair(step, new_gradient - gradient)]
            lower = new_value < value
            informed = lower[:, None] | (pairs[-1].scale > 0)
            share = torch.where(informed, torch.ones_like(share), SHRINK * share)
            value = torch.where(lower, new_value, value)
            code = torch.where(lower[:, None], code + step, code)
            gradient = torch.where(lower[:, None], new_gradient, gradient)
        return code

    @torch.enable_grad()
    def _evaluate(self, x: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) losses and their (B, K) gradients."""
        code = code.detach().requires_grad_()
        values = self.loss(self.network.decode(code), x)
        if self.prior is not None:
            values = values + self.prior(code)
        (gradient,) = torch.autograd.grad(values.sum(), code)
        return values.detach(), gradient


def _direction(gradient: Tensor, pairs: list[CurvaturePair], metric: Tensor) -> Tensor:
    """(B, K): the inverse curvature of metric and pairs times the gradient (B, K)."""
    shares = []
    for pair in reversed(pairs):
        shares.append(pair.scale * (pair.step * gradient).sum(dim=1, keepdim=True))
        gradient = gradient - shares[-1] * pair.change
    direction = gradient @ metric
    for pair, share in zip(pairs, reversed(shares), strict=True):
        back = pair.scale * (pair.change * direction).sum(dim=1, keepdim=True)
        direction = direction + (share - back) * pair.step
    return direction


def _curvature_pair(step: Tensor, change: Tensor) -> CurvaturePair:
    product = (step * change).sum(dim=1, keepdim=True)
    size = step.norm(dim=1, keepdim=True) * change.norm(dim=1, keepdim=True)
    usable = product > LEAST_CURVATURE * size
    return CurvaturePair(
        torch.where(usable, step, torch.zeros_like(step)),
        torch.where(usable, change, torch.zeros_like(change)),
        torch.where(usable, 1 / product, torch.zeros_like(product)),
    )


@torch.enable_grad()
def inverse_curvature(network: Network, loss: HasCurvature, x: Tensor, seed: int) -> Tensor:
    """(K, K): the inverse of the damped mean of J' C J / D over rows (n, *shape).

    J (D, K) is the decoder's Jacobian at a row's code and C the loss's curvature: the generalised
    Gauss-Newton matrix (Schraudolph 2002). For random signs s, (J' C^1/2 s)(J' C^1/2 s)' is an
    unbiased estimate of it that takes one backward pass.
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
    # Contiguous like the tensor of a saved model: the order of sums depends on the layout.
    return inverse.to(curved.dtype).contiguous()
