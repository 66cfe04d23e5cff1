"""Penalties on the code: sparsity (L1, KL) and contraction."""

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
    """Base of the penalties: a weighted term that is added to the reconstruction loss.

    A subclass implements `value(step)`, a scalar. `step.mean` averages over rows by weight.

    Example:
        >>> from dataclasses import dataclass
        >>> from isthmus.losses import PenaltySpec
        >>> @dataclass(kw_only=True)
        ... class L2(PenaltySpec):
        ...     def value(self, step):
        ...         return step.mean(step.output.code.square().mean(dim=1))
        >>> L2(weight=0.1).name
        'l2'
    """

    NEEDS_ONLY_CODE: ClassVar[bool] = False
    """Whether it depends only on the code, the code's range and the weights of the rows."""

    weight: float = 1e-3
    """The weight of the term; the reconstruction loss is a mean over features. >= 0."""

    @property
    def name(self) -> str:
        """The name of the term in the history."""
        return type(self).__name__.lower()

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        require(
            self.weight >= 0, f"{type(self).__name__}: weight={self.weight} must not be negative"
        )

    def __call__(self, step: Step) -> Tensor:
        """The weighted scalar for one batch."""
        # Zero times the value could be NaN, and probes draw random numbers.
        return self.weight * self.value(step) if self.weight else step.x.new_zeros(())

    def value(self, step: Step) -> Tensor:
        """The unweighted scalar for one batch."""
        raise NotImplementedError


@dataclass(kw_only=True)
class L1(PenaltySpec):
    """The mean absolute value of the code units, for a sparse code.

    Example:
        >>> from isthmus.losses import L1
        >>> L1(weight=0.01).to_json()
        {'type': 'L1', 'weight': 0.01}
    """

    NEEDS_ONLY_CODE: ClassVar[bool] = True

    def value(self, step: Step) -> Tensor:
        """The weighted mean over rows of mean |h|."""
        return step.mean(step.output.code.abs().mean(dim=1))


@dataclass(kw_only=True)
class KL(PenaltySpec):
    """KL divergence from a target rate to each unit's mean activity (Ng 2011).

    The activity of a bounded unit (sigmoid, tanh) is its position in its interval; that of an
    unbounded unit is sigmoid(h).

    Example:
        >>> from isthmus.losses import KL
        >>> KL(target_rate=0.1).to_json()
        {'type': 'KL', 'weight': 0.001, 'target_rate': 0.1}
    """

    NEEDS_ONLY_CODE: ClassVar[bool] = True

    target_rate: float = 0.05
    """The target mean activity, in (0, 1)."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
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
        inactive = (1 - target) * ((1 - target) / (1 - rate)).log()
        return (target * (target / rate).log() + inactive).mean()


@dataclass(kw_only=True)
class Contraction(PenaltySpec):
    """The squared Frobenius norm of the encoder's Jacobian at the clean input (Rifai et al. 2011).

    It is exact if the encoder is one dense layer: sum_k act'(z_k)^2 |W_k|^2. Otherwise it is
    estimated without bias by |J^T v|^2 with `probes` random sign vectors v (Hutchinson 1990).

    Example:
        >>> from isthmus.losses import Contraction
        >>> Contraction(probes=2).to_json()
        {'type': 'Contraction', 'weight': 0.1, 'probes': 2}
    """

    weight: float = 0.1
    """The weight of the term; the reconstruction loss is a mean over features. >= 0."""

    probes: int = 1
    """Random vectors per batch for the estimate, >= 1."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
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
    """(B,): an unbiased, differentiable estimate of |d encode / d x|_F^2 for each row.

    Parameters:
        encode: Maps rows (B, *shape) to codes (B, K).
        x: (B, *shape) rows.
        probes: Random sign vectors per row (Hutchinson 1990).

    Example:
        >>> import torch
        >>> from isthmus.losses import estimated_norm
        >>> estimated_norm(lambda x: 3 * x, torch.ones(2, 4), probes=1)
        tensor([36., 36.])
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        code = encode(x)
        total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for _ in range(probes):
            signs = torch.randint(0, 2, code.shape, device=code.device).to(code.dtype) * 2 - 1
            (product,) = torch.autograd.grad(code, x, signs, create_graph=True)
            total = total + product.flatten(1).square().sum(dim=1)
    return total / probes
