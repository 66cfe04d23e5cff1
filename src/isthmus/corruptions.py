"""Corruptions of the input: the network reconstructs the clean row from a disturbed one."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from isthmus.errors import require
from isthmus.missing import random_mask
from isthmus.spec import Spec
from isthmus.types import Facts

__all__ = [
    "CORRUPTIONS",
    "Corruption",
    "Gaussian",
    "Masking",
    "MissingValues",
    "SaltAndPepper",
    "SwapRows",
]


@dataclass(kw_only=True)
class Corruption(Spec):
    """Base of the corruptions, which disturb a batch before the network encodes it.

    A subclass implements `__call__(x, facts)`. Random numbers come from torch's global generator.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from isthmus.corruptions import Corruption
        >>> from isthmus.types import Facts
        >>> @dataclass(kw_only=True)
        ... class Negate(Corruption):
        ...     def __call__(self, x, facts):
        ...         return -x
        >>> Negate()(torch.ones(1, 3), Facts(shape=(3,)))
        tensor([[-1., -1., -1.]])
    """

    ADDS_MISSING: ClassVar[bool] = False
    """Whether it removes values, so that the network must support missing values."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""

    def __call__(self, x: Tensor, facts: Facts) -> Tensor:
        """A disturbed copy of the batch (B, *shape), which itself stays unchanged."""
        raise NotImplementedError


@dataclass(kw_only=True)
class Gaussian(Corruption):
    """Adds independent normal noise to every value.

    Example:
        >>> import torch
        >>> from isthmus.corruptions import Gaussian
        >>> from isthmus.types import Facts
        >>> Gaussian(std=0.0)(torch.ones(1, 3), Facts(shape=(3,)))
        tensor([[1., 1., 1.]])
    """

    std: float = 0.1
    """Standard deviation of the noise in prepared units, >= 0."""

    def check(self) -> None:
        """Raise RequestError unless std >= 0."""
        require(self.std >= 0, f"Gaussian: std={self.std} must not be negative")

    def __call__(self, x: Tensor, facts: Facts) -> Tensor:
        """A noisy copy of `x`."""
        del facts
        return x + self.std * torch.randn_like(x)


@dataclass(kw_only=True)
class PerValueCorruption(Corruption):
    """Base of corruptions that change each value with the same probability."""

    rate: float = 0.25
    """The share of values that are changed, in [0, 1)."""

    def check(self) -> None:
        """Raise RequestError unless 0 <= rate < 1."""
        name = type(self).__name__
        require(0 <= self.rate < 1, f"{name}: rate={self.rate} must be at least 0 and below 1")

    def mask(self, x: Tensor, facts: Facts) -> Tensor:
        """A boolean mask of the values to change, of the shape of `x`; whole columns of a table."""
        return random_mask(x, self.rate, facts.sizes)


@dataclass(kw_only=True)
class Masking(PerValueCorruption):
    """Replaces values by zero, the mean after preparation (Vincent et al. 2008).

    Example:
        >>> import torch
        >>> from isthmus.corruptions import Masking
        >>> from isthmus.types import Facts
        >>> _ = torch.manual_seed(0)
        >>> Masking(rate=0.5)(torch.ones(1, 6), Facts(shape=(6,)))
        tensor([[0., 1., 0., 0., 0., 1.]])
    """

    def __call__(self, x: Tensor, facts: Facts) -> Tensor:
        """A copy of `x` with some values masked."""
        if facts.columns is None:
            return x.masked_fill(self.mask(x, facts), 0.0)
        return torch.where(self.mask(x, facts), torch.as_tensor(facts.mean).to(x), x)


@dataclass(kw_only=True)
class MissingValues(PerValueCorruption):
    """Removes values from the network's input, but not from the loss.

    The network learns to impute them, and supports missing values even if the training rows are
    complete.

    Example:
        >>> import torch
        >>> from isthmus.corruptions import MissingValues
        >>> from isthmus.types import Facts
        >>> _ = torch.manual_seed(0)
        >>> MissingValues(rate=0.5)(torch.ones(1, 6), Facts(shape=(6,)))
        tensor([[nan, 1., nan, nan, nan, 1.]])
    """

    ADDS_MISSING: ClassVar[bool] = True

    rate: float = 0.1
    """The share of values that are removed, in [0, 1)."""

    def __call__(self, x: Tensor, facts: Facts) -> Tensor:
        """A copy of `x` with missing values."""
        return x.masked_fill(self.mask(x, facts), torch.nan)


@dataclass(kw_only=True)
class SaltAndPepper(PerValueCorruption):
    """Replaces values by the lowest or highest of the training rows, with equal probability.

    Example:
        >>> import torch
        >>> from isthmus.corruptions import SaltAndPepper
        >>> from isthmus.types import Facts
        >>> _ = torch.manual_seed(0)
        >>> SaltAndPepper(rate=0.5)(torch.zeros(1, 6), Facts(shape=(6,), low=-2.0, high=3.0))
        tensor([[ 3.,  0.,  3.,  0.,  3., -2.]])
    """

    def __call__(self, x: Tensor, facts: Facts) -> Tensor:
        """A copy of `x` with some values at the extremes."""
        salt = torch.rand_like(x) < 0.5
        grains = torch.where(salt, x.new_tensor(facts.high), x.new_tensor(facts.low))
        return torch.where(self.mask(x, facts), grains, x)


@dataclass(kw_only=True)
class SwapRows(PerValueCorruption):
    """Replaces values by those of another row of the batch, which keeps each distribution.

    Example:
        >>> import torch
        >>> from isthmus.corruptions import SwapRows
        >>> from isthmus.types import Facts
        >>> _ = torch.manual_seed(0)
        >>> SwapRows(rate=0.5)(torch.arange(8.0).reshape(2, 4), Facts(shape=(4,)))
        tensor([[0., 5., 6., 7.],
                [4., 1., 6., 3.]])
    """

    def __call__(self, x: Tensor, facts: Facts) -> Tensor:
        """A copy of `x` with values of other rows; a single row is returned unchanged."""
        if len(x) < 2:
            return x.clone()
        # A cyclic shift by a random, non-zero amount never gives a row to itself.
        shift = int(torch.randint(1, len(x), ()).item())
        return torch.where(self.mask(x, facts), x.roll(shift, dims=0), x)


CORRUPTIONS: dict[str, type[Corruption]] = {
    "gaussian": Gaussian,
    "masking": Masking,
    "missing": MissingValues,
    "salt_and_pepper": SaltAndPepper,
    "swap": SwapRows,
}
"""Corruptions by name."""
