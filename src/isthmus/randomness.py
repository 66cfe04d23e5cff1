"""Randomness is position: torch's global generators are seeded anew for each step."""

from collections.abc import Sequence
from typing import Any

import torch


def reseed(seed: int, device: torch.device) -> None:
    """Seed torch's global generators that work on `device` draws from.

    torch.manual_seed looks at every backend there is, and where one was never used writes down
    where it was called from: of the step of a small network that was a third of the time.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
        return
    if device.type != "cuda":
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    number = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.default_generators[number].manual_seed(seed)


def seed_at(seed: int, index: int) -> int:
    """A seed of its own for step number `index` (-1: for looks between steps) of a fit."""
    # Distinct and reproducible: Python's own integer hash is the identity.
    return ((seed + 1) * 0x9E3779B97F4A7C15 + (index + 1) * 0xBF58476D1CE4E5B9) % 2**63


class Seeds(Sequence[int]):
    """The seeds of consecutive steps, worked out when somebody asks for them: few do."""

    def __init__(self, seed: int, steps: range) -> None:
        self.seed, self.steps = seed, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, at: Any) -> Any:
        """One seed, or the seeds of a slice."""
        if isinstance(at, slice):
            return Seeds(self.seed, self.steps[at])
        return seed_at(self.seed, self.steps[at])
