"""Pretraining: what every way to start a network's weights has in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.spec import Spec
from isthmus.types import WeightedRows

Record = dict[str, Any]


@dataclass(kw_only=True)
class Job:
    """A network that is built but not trained, and what it may learn from."""

    network: CodeNetwork
    loss: Reconstruction
    train: WeightedRows
    validation: WeightedRows | None
    """Rows to judge by, never to learn from."""

    seed: int
    """With the position (level, epoch, batch) it decides everything random."""

    tell: Callable[[str], None]
    """Takes a line that a person should read."""

    heed: Callable[[], None] = lambda: None
    """Asked before each step; raises KeyboardInterrupt where the fit shall end."""


@dataclass(kw_only=True)
class Pretraining(Spec):
    """A way to find the weights that training starts from."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""

    def run(self, job: Job) -> list[Record]:
        """Set the weights of `job.network`; what happened, for the history.

        May seed torch's global generator, which the caller keeps apart. Raises RequestError
        where the network cannot start so, DivergenceError where learning left the finite numbers.
        """
        del job
        return []


@dataclass(kw_only=True)
class Random(Pretraining):
    """The weights as the network drew them when it was built."""


def mixed(*position: int) -> int:
    """A seed, below 2**63, for a position given in whole numbers from 0."""
    return int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0] >> 1)
