"""What "the same back" means: squared, Bernoulli and Huber reconstruction losses."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.errors import require
from isthmus.missing import LEAST_SHARE, count_known, filled
from isthmus.spec import Spec
from isthmus.types import ColumnFacts, Facts

Link = tuple[float | Tensor, float | Tensor]


class Bound:
    """What a loss knows of the rows it judges, once there are some."""

    facts: Facts | None = None

    def bound(self, facts: Facts) -> Self:
        """The same loss, which knows what the columns of the rows are."""
        known = copy.copy(self)
        known.facts = facts
        return known

    @property
    def columns(self) -> tuple[ColumnFacts, ...] | None:
        """Of a table whose columns are not all numbers, else None."""
        return None if self.facts is None else self.facts.columns

    def in_columns(self, errors: Tensor) -> Tensor:
        """Errors of (B, D) features, so that their mean is that over columns of their sums."""
        if self.facts is None or self.columns is None:
            return errors
        return errors * (self.facts.n_features / len(self.columns))


@dataclass(kw_only=True)
class Reconstruction(Bound, Spec):
    """A loss between the decoder's raw output and the row, one number a feature."""

    IN_NATS: ClassVar[bool] = False
    """Whether it is a negative log-likelihood as it stands, without a variance to be learned."""

    JUDGES_COUNTS: ClassVar[bool] = False
    """Whether its raw output for a column of counts is the logarithm of a rate."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""

    def errors(self, raw: Tensor, x: Tensor) -> Tensor:
        """Elementwise loss, the shape of `x`."""
        raise NotImplementedError

    def mean(self, raw: Tensor) -> Tensor:
        """The data that the raw output stands for."""
        return raw

    def sizes(self, x: Tensor) -> Tensor | None:
        """(B, 1): how deep each of the rows `x` was counted, None where they were not."""
        del x
        return None

    def to_common_depth(self, x: Tensor) -> Tensor:
        """The rows `x`, (B, *shape), as if all had been counted at the mean depth."""
        sizes = self.sizes(x)
        return x if sizes is None else x / sizes

    def rebuilt(self, raw: Tensor, x: Tensor) -> Tensor:
        """The data that the raw output stands for in rows `x`, of whose depth it says nothing."""
        del x
        return self.mean(raw)

    @property
    def link(self) -> Link:
        """(slope, offset) such that mean(slope * x + offset) is x, or near it; or (D,) each."""
        return 1.0, 0.0

    def per_row(self, raw: Tensor, x: Tensor) -> Tensor:
        """(B,): the mean loss over the features of each row."""
        return self.errors(raw, x).flatten(1).mean(dim=1)

    def per_row_known(self, raw: Tensor, x: Tensor) -> Tensor:
        """(B,): the mean loss over the features that are known of each row; 0 where none is."""
        known = ~x.isnan()
        # Errors are made of numbers alone and then left out: the gradient of NaN times 0 is NaN.
        errors = self.errors_with_missing(raw, x) * known
        return errors.flatten(1).sum(dim=1) / self._known(x.flatten(1))

    def errors_with_missing(self, raw: Tensor, x: Tensor) -> Tensor:
        """Elementwise loss where `x` is known, and any numbers where it is not."""
        return self.errors(raw, filled(x))

    def _known(self, x: Tensor) -> Tensor:
        """(B,): by what to divide the sum of the errors of what is known of (B, D)."""
        if self.facts is None or self.facts.columns is None:
            return count_known(x).clamp(min=1)
        columns = count_known(x, self.facts.share).clamp(min=LEAST_SHARE)
        return columns * (self.facts.n_features / len(self.facts.columns))

    def row_loss(self, *, allow_missing: bool) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss of rows whose values may be missing (`gaps`), or of complete ones."""
        return self.per_row_known if allow_missing else self.per_row

    def curvature(self, raw: Tensor) -> Tensor:
        """Elementwise, the shape of `raw`: the second derivative where the row is what is expected.

        For a negative log-likelihood of the exponential family that is the Fisher information.
        """
        with torch.enable_grad():
            raw = raw.detach().requires_grad_()
            errors = self.errors(raw, self.mean(raw.detach()))
            (slope,) = torch.autograd.grad(errors.sum(), raw, create_graph=True)
            (second,) = torch.autograd.grad(slope.sum(), raw)
        return second.clamp(min=0)


@dataclass(kw_only=True)
class Squared(Reconstruction):
    """(x - r)**2; minimised by the mean."""

    def errors(self, raw: Tensor, x: Tensor) -> Tensor:
        """Elementwise squared error."""
        return self.in_columns((raw - x).square())


@dataclass(kw_only=True)
class Huber(Reconstruction):
    """(x - r)**2 up to `delta`, then linear, so that outliers do not rule (Huber 1964)."""

    delta: float = 1.0
    """Where the square ends, in prepared units, > 0."""

    def check(self) -> None:
        """Raise RequestError unless delta > 0."""
        require(self.delta > 0, f"delta={self.delta} must be positive")

    def errors(self, raw: Tensor, x: Tensor) -> Tensor:
        """Elementwise; twice torch's huber_loss, so that it equals Squared near zero."""
        huber = functional.huber_loss(raw, x, reduction="none", delta=self.delta)
        return self.in_columns(2 * huber)


@dataclass(kw_only=True)
class Bernoulli(Reconstruction):
    """-x log p - (1 - x) log(1 - p) in nats for x in [0, 1]; the raw output is the logit of p."""

    IN_NATS: ClassVar[bool] = True

    def errors(self, raw: Tensor, x: Tensor) -> Tensor:
        """Elementwise cross-entropy."""
        return functional.binary_cross_entropy_with_logits(raw, x, reduction="none")

    def mean(self, raw: Tensor) -> Tensor:
        """p, in (0, 1)."""
        return torch.sigmoid(raw)

    @property
    def link(self) -> Link:
        """The tangent of the logit at one half."""
        return 4.0, -2.0
