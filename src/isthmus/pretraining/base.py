"""Pretraining, the base of all ways to set initial weights, and its inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.spec import Spec
from isthmus.types import WeightedRows

PretrainingRecord = dict[str, Any]
"""One entry of the history of a fit, as JSON values."""


@dataclass(kw_only=True)
class PretrainingJob:
    """An untrained network and the rows for its pretraining.

    Example:
        >>> from isthmus.pretraining import PretrainingJob
        >>> sorted(PretrainingJob.__dataclass_fields__)[:3]
        ['check_cancelled', 'loss', 'network']
    """

    network: CodeNetwork
    loss: Reconstruction
    train: WeightedRows
    validation: WeightedRows | None
    """Rows for evaluation only."""

    seed: int
    """All random numbers depend on it and the position (layer, epoch, batch)."""

    report: Callable[[str], None]
    """Shows a line of progress."""

    check_cancelled: Callable[[], None] = lambda: None
    """Called before each step; raises KeyboardInterrupt if the fit was cancelled."""


@dataclass(kw_only=True)
class Pretraining(Spec):
    """Base of the pretrainings, which set the initial weights of a network.

    A subclass implements `run(job)`.

    Example:
        >>> from isthmus.pretraining import PRETRAININGS
        >>> list(PRETRAININGS)
        ['pca', 'random', 'lsuv', 'rbm', 'autoencoder']
    """

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""

    def run(self, job: PretrainingJob) -> list[PretrainingRecord]:
        """Set the weights of `job.network`; return records for the history.

        It may seed torch's global generator, whose state the caller restores.

        Raises:
            RequestError: The network does not support this pretraining.
            DivergenceError: The pretraining did not stay finite.
        """
        del job
        return []


@dataclass(kw_only=True)
class Random(Pretraining):
    """The random weights that the network was built with.

    Example:
        >>> from isthmus.pretraining import Random
        >>> Random().to_json()
        {'type': 'Random'}
    """


def position_seed(*position: int) -> int:
    """A seed below 2**63 for a position, given as non-negative integers."""
    return int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0] >> 1)
