"""Random seeds as a function of position: torch's global generators are reseeded for each step."""

from collections.abc import Sequence
from typing import overload

import torch

from isthmus._compat import cuda_generator


def reseed(seed: int, device: torch.device) -> None:
    """Seed torch's global generators that work on `device` draws from.

    torch.manual_seed seeds every backend and formats a stack trace for each unused one. That was a
    third of the time of a small network's step.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
        return
    if device.type != "cuda":
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    number = torch.cuda.current_device() if device.index is None else device.index
    cuda_generator(number).manual_seed(seed)


def seed_at(seed: int, index: int) -> int:
    """The seed of step number `index` of a fit; -1 is for evaluations between steps."""
    # Distinct and reproducible: Python's own integer hash is the identity.
    return ((seed + 1) * 0x9E3779B97F4A7C15 + (index + 1) * 0xBF58476D1CE4E5B9) % 2**63


class Seeds(Sequence[int]):
    """The seeds of consecutive steps, computed on demand."""

    def __init__(self, seed: int, steps: range) -> None:
        self.seed, self.steps = seed, steps

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> "Seeds": ...

    def __getitem__(self, index: int | slice) -> "int | Seeds":
        """One seed, or the seeds of a slice."""
        if isinstance(index, slice):
            return Seeds(self.seed, self.steps[index])
        return seed_at(self.seed, self.steps[index])
