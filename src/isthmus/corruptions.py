"""Noise on the way in: the network sees the noisy row and must rebuild the clean one."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from isthmus.errors import require
from isthmus.missing import places
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
    """A way to disturb a batch; randomness comes from torch's global generator."""

    ADDS_MISSING: ClassVar[bool] = False
    """Whether it makes values missing, so that the network must know what to do with gaps."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""

    def __call__(self, x: Tensor, facts: Facts) -> Tensor:
        """A disturbed copy of the (B, *shape) batch, which is left as it was."""
        raise NotImplementedError


@dataclass(kw_only=True)
class Gaussian(Corruption):
    """Adds independent normal noise to every value."""

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
class Rated(Corruption):
    """A corruption that strikes each value with the same chance."""

    rate: float = 0.25
    """The share of values struck, in [0, 1)."""

    def check(self) -> None:
        """Raise RequestError unless 0 <= rate < 1."""
        name = type(self).__name__
        require(0 <= self.rate < 1, f"{name}: rate={self.rate} must be at least 0 and below 1")

    def struck(self, x: Tensor, facts: Facts) -> Tensor:
        """A boolean mask, the shape of `x`, of the values to change; a column's all together."""
        return places(x, self.rate, facts.sizes)


@dataclass(kw_only=True)
class Masking(Rated):
    """Sets values to zero, after preparation the middle of the data (Vincent et al. 2008)."""

    def __call__(self, x: Tensor, facts: Facts) -> Tensor:
        """A copy of `x` with holes."""
        if facts.columns is None:
            return x.masked_fill(self.struck(x, facts), 0.0)
        return torch.where(self.struck(x, facts), torch.as_tensor(facts.mean).to(x), x)


@dataclass(kw_only=True)
class MissingValues(Rated):
    """Hides values as if they were missing, which they are to the network but not to the loss.

    So it learns to say what was there, and the model knows what to do with gaps even where the
    rows that it was fitted on have none.
    """

    ADDS_MISSING: ClassVar[bool] = True

    rate: float = 0.1
    """The share of values hidden, in [0, 1)."""

    def __call__(self, x: Tensor, facts: Facts) -> Tensor:
        """A copy of `x` with gaps."""
        return x.masked_fill(self.struck(x, facts), torch.nan)


@dataclass(kw_only=True)
class SaltAndPepper(Rated):
    """Sets values to the training rows' lowest or highest, each half of the time."""

    def __call__(self, x: Tensor, facts: Facts) -> Tensor:
        """A copy of `x` with extremes."""
        salt = torch.rand_like(x) < 0.5
        grains = torch.where(salt, x.new_tensor(facts.high), x.new_tensor(facts.low))
        return torch.where(self.struck(x, facts), grains, x)


@dataclass(kw_only=True)
class SwapRows(Rated):
    """Takes values from another row of the batch, so that each feature keeps its distribution."""

    def __call__(self, x: Tensor, facts: Facts) -> Tensor:
        """A copy of `x` with strangers' values; a batch of one row is returned as it is."""
        if len(x) < 2:
            return x.clone()
        # A cyclic shift by a random, non-zero amount never gives a row to itself.
        shift = int(torch.randint(1, len(x), ()).item())
        return torch.where(self.struck(x, facts), x.roll(shift, dims=0), x)


CORRUPTIONS: dict[str, type[Corruption]] = {
    "gaussian": Gaussian,
    "masking": Masking,
    "missing": MissingValues,
    "salt_and_pepper": SaltAndPepper,
    "swap": SwapRows,
}
