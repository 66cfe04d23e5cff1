"""What else the code should be: sparse (L1, KL) or insensitive to its input (contraction)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from isthmus.errors import require
from isthmus.spec import Spec
from isthmus.types import Step

EDGE = 1e-6


@dataclass(kw_only=True)
class PenaltySpec(Spec):
    """A term on the code, added to the loss with a weight."""

    OF_CODE: ClassVar[bool] = False
    """Whether it asks for nothing of a step but its code, its weights and the code's range."""

    weight: float = 1e-3
    """How much the term counts beside the mean reconstruction loss a feature, >= 0."""

    @property
    def name(self) -> str:
        """What the term is called in the history."""
        return type(self).__name__.lower()

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        require(
            self.weight >= 0, f"{type(self).__name__}: weight={self.weight} must not be negative"
        )

    def __call__(self, step: Step) -> Tensor:
        """The weighted scalar for one batch."""
        # Nothing times zero would not be nothing: it could be NaN, and probes use up randomness.
        return self.weight * self.value(step) if self.weight else step.x.new_zeros(())

    def value(self, step: Step) -> Tensor:
        """The unweighted scalar for one batch."""
        raise NotImplementedError


@dataclass(kw_only=True)
class L1(PenaltySpec):
    """Mean absolute activity of the code units: few units speak for each row."""

    OF_CODE: ClassVar[bool] = True

    def value(self, step: Step) -> Tensor:
        """The weighted mean over rows of mean |h|."""
        return step.mean(step.output.code.abs().mean(dim=1))


@dataclass(kw_only=True)
class KL(PenaltySpec):
    """KL divergence from a target activity rate to each unit's mean activity (Ng 2011).

    The activity of a unit that stays in an interval (sigmoid, tanh) is its place in it; that of an
    open unit is sigmoid(h).
    """

    OF_CODE: ClassVar[bool] = True

    target_rate: float = 0.05
    """The wanted mean activity, in (0, 1)."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        super().check()
        require(
            0 < self.target_rate < 1, f"target_rate={self.target_rate} must lie between 0 and 1"
        )

    def value(self, step: Step) -> Tensor:
        """The mean over units of KL(target || rate), in nats."""
        code = step.output.code
        code_range = step.model.code_range
        if code_range is None:
            activity = torch.sigmoid(code)
        else:
            activity = (code - code_range[0]) / (code_range[1] - code_range[0])
        rate = (step.weight[:, None] * activity).mean(dim=0) / step.weight.mean()
        rate = rate.clamp(EDGE, 1 - EDGE)
        target = torch.as_tensor(self.target_rate, dtype=rate.dtype, device=rate.device)
        silent = (1 - target) * ((1 - target) / (1 - rate)).log()
        return (target * (target / rate).log() + silent).mean()


@dataclass(kw_only=True)
class Contraction(PenaltySpec):
    """The squared Frobenius norm of the encoder's Jacobian at the clean input (Rifai et al. 2011).

    Exact where the encoder is one dense layer: sum_k act'(z_k)^2 |W_k|^2. Elsewhere estimated
    without bias by |J^T v|^2 with `probes` random sign vectors v (Hutchinson 1990).
    """

    weight: float = 0.1
    """How much the term counts beside the mean reconstruction loss a feature, >= 0."""

    probes: int = 1
    """Random vectors a batch for the estimate, >= 1."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        super().check()
        require(self.probes >= 1, f"probes={self.probes} must be at least 1")

    def value(self, step: Step) -> Tensor:
        """The weighted mean over rows of |J|_F^2."""
        encoder = step.model.dense_encoder()
        if encoder is not None:
            z = step.model.before_code(step.x)
            return step.mean(encoder.derivative(z).square() @ encoder.weight.square().sum(dim=1))
        return step.mean(estimated_norm(step.model.encode, step.x, self.probes))


def estimated_norm(encode: Callable[[Tensor], Tensor], x: Tensor, probes: int) -> Tensor:
    """(B,): an unbiased estimate of each row's |d encode / d x|_F^2, differentiable."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        code = encode(x)
        total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for _ in range(probes):
            signs = torch.randint(0, 2, code.shape, device=code.device).to(code.dtype) * 2 - 1
            (pulled,) = torch.autograd.grad(code, x, signs, create_graph=True)
            total = total + pulled.flatten(1).square().sum(dim=1)
    return total / probes
