"""What takes as long to learn as many a fit, and few ask for: learned when somebody does."""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from isthmus.data import Rows, sampled
from isthmus.imputation.imputer import Imputer
from isthmus.imputation.latent_prior import ROWS_TO_LEARN
from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.runtime import device as world
from isthmus.training.rows import taken
from isthmus.types import Index, WeightedRows

MOST_BYTES = 1 << 26
"""Of rows that a fitted model keeps until then; where they take more, it learns at once."""

_ONE_AT_A_TIME = threading.RLock()
"""Whoever learns: how many threads torch takes is the process's. Who asks for what is learned
already need not wait."""


@dataclass
class Sample:
    """Copies of some prepared rows, evenly spaced, with their weights."""

    values: Tensor
    """(n, *shape)."""

    weight: Tensor
    """(n,)."""

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """As many as an imputer learns from."""
        return cls(*taken(rows, sampled(rows, ROWS_TO_LEARN)))

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.values)

    def take(self, positions: Index) -> Tensor:
        """(len(positions), *shape): the rows at these positions."""
        return self.values[torch.as_tensor(positions)]


class LazyImputer:
    """An imputer, or how to learn it when it is first asked for; copied once it is learned."""

    def __init__(self, imputer: Imputer | Callable[[], Imputer]) -> None:
        self._imputer = imputer

    def __call__(self) -> Imputer:
        """The imputer."""
        found = self._imputer
        if isinstance(found, Imputer):
            return found
        with _ONE_AT_A_TIME:
            if not isinstance(self._imputer, Imputer):
                self._imputer = self._imputer()
            return self._imputer

    def __getstate__(self) -> dict[str, Any]:
        """Without rows: what a fit has seen does not go where its model goes."""
        return {"_imputer": self()}


def lazy_imputer(
    network: CodeNetwork,
    loss: Reconstruction,
    rows: tuple[Rows, Rows],
    metric: Tensor | None,
    centre: Tensor,
    seed: int,
    work: int,
) -> LazyImputer:
    """What a network learns of rows to train on and to judge by; it must stay as it is till then.

    `work` is what a batch takes in multiply-adds; for the rest see `Imputer.learn`.
    """

    def learn(train: WeightedRows, judged: WeightedRows) -> Imputer:
        # Whoever asks may have told torch anything.
        exact = torch.autocast(centre.device.type, enabled=False)
        with torch.inference_mode(False), exact, world.threads(work, centre.device):
            return Imputer.learn(network, loss, train, judged, metric, centre=centre, seed=seed)

    if sum(part.nbytes(min(len(part), ROWS_TO_LEARN)) for part in rows) > MOST_BYTES:
        return LazyImputer(learn(*rows))
    train = Sample.of(rows[0])
    judged = train if rows[1] is rows[0] else Sample.of(rows[1])
    return LazyImputer(functools.partial(learn, train, judged))
