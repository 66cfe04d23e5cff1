"""Reconstruction losses: the squared, Huber and Bernoulli losses, and their base."""

# Shape letters: B rows in a batch, D features.

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
from isthmus.types import ColumnFacts, Facts, LinearLink


class FactsMixin:
    """Gives a loss the facts of the rows that it is computed on."""

    facts: Facts | None = None

    def with_facts(self, facts: Facts) -> Self:
        """A copy of the loss for rows with these facts."""
        loss = copy.copy(self)
        loss.facts = facts
        return loss

    @property
    def columns(self) -> tuple[ColumnFacts, ...] | None:
        """The columns of a table that are not all numeric, else None."""
        return None if self.facts is None else self.facts.columns

    def average_columns(self, errors: Tensor) -> Tensor:
        """Errors of features (B, D), scaled so that their mean is the mean over columns of sums."""
        if self.facts is None or self.columns is None:
            return errors
        return errors * (self.facts.n_features / len(self.columns))


@dataclass(kw_only=True)
class Reconstruction(FactsMixin, Spec):
    """Base of the reconstruction losses, between the decoder's raw output and the row.

    A subclass implements `errors(raw, x)`, one number per feature, and `mean(raw)` if the raw
    output is not the reconstruction itself, as with logits.

    Example:
        >>> import torch
        >>> from isthmus.losses import Squared
        >>> Squared().per_row(torch.zeros(2, 3), torch.tensor([[1.0, 1, 1], [0, 0, 3]]))
        tensor([1., 3.])
    """

    MINIMIZED_BY_PCA: ClassVar[bool] = False
    """Whether it is the squared error, for which PCA is the best linear autoencoder."""

    IS_LIKELIHOOD: ClassVar[bool] = False
    """Whether it is a negative log-likelihood in nats, without an unknown variance."""

    SUPPORTS_COUNTS: ClassVar[bool] = False
    """Whether its raw output for a column of counts is the logarithm of a rate."""

    SCALING: ClassVar[str] = "auto"
    """The preparation that preparation="auto" stands for with this loss."""

    NEEDS_UNIT_RANGE: ClassVar[bool] = False
    """Whether every prepared value must be in [0, 1]."""

    @property
    def needs_counts(self) -> bool:
        """Whether some columns must be counts."""
        return False

    def network_output(self, output: str) -> str:
        """The `output` of the network for a kind whose own is `output`.

        It is "linear" for a loss that defines `mean`: the raw output is then not in the units of
        the data, and must not be bounded like them.
        """
        return output if type(self).mean is Reconstruction.mean else "linear"

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""

    def errors(self, raw: Tensor, x: Tensor) -> Tensor:
        """The elementwise loss, of the shape of `x`."""
        raise NotImplementedError

    def mean(self, raw: Tensor) -> Tensor:
        """The reconstruction, in prepared units, of a raw output."""
        return raw

    def size_factors(self, x: Tensor) -> Tensor | None:
        """(B, 1): the size factors of rows of counts; None for other rows."""
        del x
        return None

    def normalize_sizes(self, x: Tensor) -> Tensor:
        """The rows `x`, (B, *shape), divided by their size factors, if they have any."""
        sizes = self.size_factors(x)
        return x if sizes is None else x / sizes

    def reconstruct(self, raw: Tensor, x: Tensor) -> Tensor:
        """The reconstruction of rows `x`, whose size factors the raw output does not contain."""
        del x
        return self.mean(raw)

    @property
    def link(self) -> LinearLink:
        """(slope, offset), numbers or (D,), such that mean(slope * x + offset) is about x."""
        return 1.0, 0.0

    def per_row(self, raw: Tensor, x: Tensor) -> Tensor:
        """(B,): the mean loss over the features of each row."""
        return self.errors(raw, x).flatten(1).mean(dim=1)

    def per_row_known(self, raw: Tensor, x: Tensor) -> Tensor:
        """(B,): the mean loss over the present features of each row; 0 for an empty row."""
        known = ~x.isnan()
        # Missing values are filled, then masked: the gradient of NaN times 0 is NaN.
        errors = self.errors_with_missing(raw, x) * known
        return errors.flatten(1).sum(dim=1) / self._n_known(x.flatten(1))

    def errors_with_missing(self, raw: Tensor, x: Tensor) -> Tensor:
        """The elementwise loss; arbitrary finite numbers for missing values."""
        return self.errors(raw, filled(x))

    def _n_known(self, x: Tensor) -> Tensor:
        """(B,): the divisor of the summed errors of the present values of (B, D)."""
        if self.facts is None or self.facts.columns is None:
            return count_known(x).clamp(min=1)
        columns = count_known(x, self.facts.share).clamp(min=LEAST_SHARE)
        return columns * (self.facts.n_features / len(self.facts.columns))

    def row_loss(self, *, allow_missing: bool) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss per row, for rows with missing values or for complete rows."""
        return self.per_row_known if allow_missing else self.per_row

    def curvature(self, raw: Tensor) -> Tensor:
        """The elementwise second derivative at the expected row, of the shape of `raw`.

        For a negative log-likelihood of the exponential family it is the Fisher information. A
        loss that is piecewise linear, such as |x - r|, has none, and ones take its place.
        """
        with torch.enable_grad():
            raw = raw.detach().requires_grad_()
            errors = self.errors(raw, self.mean(raw.detach()))
            (grad,) = torch.autograd.grad(errors.sum(), raw, create_graph=True)
            second = torch.zeros_like(raw)
            if grad.requires_grad:
                (second,) = torch.autograd.grad(
                    grad.sum(), raw, allow_unused=True, materialize_grads=True
                )
        second = second.clamp(min=0)
        return second if second.any() else torch.ones_like(second)


@dataclass(kw_only=True)
class Squared(Reconstruction):
    """The squared error (x - r)**2, which the mean minimizes.

    Example:
        >>> import torch
        >>> from isthmus.losses import Squared
        >>> Squared().errors(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]))
        tensor([[1., 4.]])
    """

    MINIMIZED_BY_PCA = True

    def errors(self, raw: Tensor, x: Tensor) -> Tensor:
        """Elementwise squared error."""
        return self.average_columns((raw - x).square())


@dataclass(kw_only=True)
class Huber(Reconstruction):
    """(x - r)**2 up to `delta`, then linear, which limits the effect of outliers (Huber 1964).

    Example:
        >>> import torch
        >>> from isthmus.losses import Huber
        >>> Huber(delta=1.0).errors(torch.tensor([[0.5, 3.0]]), torch.zeros(1, 2))
        tensor([[0.2500, 5.0000]])
    """

    delta: float = 1.0
    """The error at which the loss becomes linear, in prepared units, > 0."""

    def check(self) -> None:
        """Raise RequestError unless delta > 0."""
        require(self.delta > 0, f"delta={self.delta} must be positive")

    def errors(self, raw: Tensor, x: Tensor) -> Tensor:
        """Elementwise; twice torch's huber_loss, so that it equals Squared near zero."""
        huber = functional.huber_loss(raw, x, reduction="none", delta=self.delta)
        return self.average_columns(2 * huber)


@dataclass(kw_only=True)
class Bernoulli(Reconstruction):
    """The cross-entropy -x log p - (1 - x) log(1 - p) in nats for x in [0, 1].

    The raw output is the logit of p.

    Example:
        >>> import torch
        >>> from isthmus.losses import Bernoulli
        >>> loss = Bernoulli()
        >>> loss.mean(torch.tensor([0.0]))
        tensor([0.5000])
        >>> loss.errors(torch.zeros(1, 1), torch.ones(1, 1))
        tensor([[0.6931]])
    """

    IS_LIKELIHOOD: ClassVar[bool] = True
    SCALING: ClassVar[str] = "unit"
    NEEDS_UNIT_RANGE: ClassVar[bool] = True

    def network_output(self, output: str) -> str:
        """Always "linear"."""
        del output
        return "linear"

    def errors(self, raw: Tensor, x: Tensor) -> Tensor:
        """The elementwise cross-entropy."""
        return functional.binary_cross_entropy_with_logits(raw, x, reduction="none")

    def mean(self, raw: Tensor) -> Tensor:
        """p, in (0, 1)."""
        return torch.sigmoid(raw)

    @property
    def link(self) -> LinearLink:
        """The tangent of the logit at one half."""
        return 4.0, -2.0
