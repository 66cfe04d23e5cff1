"""Rows in memory, as pretraining is handed them, and jobs on small networks."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from isthmus import kinds, losses
from isthmus.pretraining import PretrainingJob
from isthmus.types import Facts, WeightedRows


class Held(WeightedRows):
    """Prepared rows with weights of mean 1, in double precision."""

    def __init__(self, x, weight=None):
        self.x = torch.as_tensor(np.asarray(x), dtype=torch.float64)
        weight = np.ones(len(x)) if weight is None else np.asarray(weight)
        self.weight = torch.as_tensor(weight / weight.mean(), dtype=torch.float64)

    def __len__(self):
        return len(self.x)

    def take(self, positions):
        return self.x[torch.as_tensor(positions)]


@pytest.fixture
def bits(digits) -> np.ndarray:
    """(1797, 64): digits as black and white."""
    return (digits.reshape(len(digits), -1) > 7).astype(float)


@pytest.fixture
def job() -> Callable[..., PretrainingJob]:
    """job(X, kind) is a fresh network of that kind for X, and what it may learn from."""

    def made(X, kind=None, *, loss=None, validation=None, weight=None, size=3, report=None, seed=0):
        kind = kind or kinds.Multilayer(hidden=(20, 10), activation="sigmoid")
        facts = Facts(shape=X.shape[1:], low=float(X.min()), high=float(X.max()))
        torch.manual_seed(seed)
        network = kind.build(facts, size).double()
        return PretrainingJob(
            network=network,
            loss=loss or losses.Squared(),
            train=Held(X, weight),
            validation=None if validation is None else Held(validation),
            seed=seed,
            report=report or (lambda _: None),
        )

    return made
