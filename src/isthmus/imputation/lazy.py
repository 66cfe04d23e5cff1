"""A lazily fitted imputer: fitting takes as long as many a network, and few users need it."""

# Shape letters: n rows.

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from isthmus.data.loading.rows import Rows, sample_positions
from isthmus.imputation.imputer import Imputer
from isthmus.imputation.latent_prior import MAX_FIT_ROWS
from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.runtime.threads import limit_threads
from isthmus.training.rows import take_rows
from isthmus.types import Index, WeightedRows

MAX_DEFERRED_BYTES = 1 << 26
"""Size of the rows that a fitted model may keep for later; if they take more, it fits at once."""

_FIT_LOCK = threading.RLock()
"""One fit at a time, since the number of torch's threads belongs to the process."""


@dataclass
class SampledRows(WeightedRows):
    """Copies of evenly spaced prepared rows, with their weights."""

    values: Tensor
    """(n, *shape)."""

    weight: Tensor
    """(n,)."""

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """As many rows as an imputer is fitted on."""
        return cls(*take_rows(rows, sample_positions(rows, MAX_FIT_ROWS)))

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.values)

    def take(self, positions: Index) -> Tensor:
        """(len(positions), *shape): the rows at these positions."""
        return self.values[torch.as_tensor(positions)]


class LazyImputer:
    """An imputer that is fitted on its first use. Copying and pickling it count as uses."""

    def __init__(self, imputer: Imputer | Callable[[], Imputer]) -> None:
        self._imputer = imputer

    def __call__(self) -> Imputer:
        """The fitted imputer."""
        imputer = self._imputer
        if isinstance(imputer, Imputer):
            return imputer
        with _FIT_LOCK:
            if not isinstance(self._imputer, Imputer):
                self._imputer = self._imputer()
            return self._imputer

    def __getstate__(self) -> dict[str, object]:
        """The fitted imputer; training rows are not copied with a model."""
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
    """An imputer for a network, fitted later on training and validation `rows`.

    The network must not change until then. `work` is the number of multiply-adds in a batch; for
    the other parameters see `Imputer.fit`.
    """

    def fit(train: WeightedRows, validation: WeightedRows) -> Imputer:
        # The caller may have changed torch's modes.
        exact = torch.autocast(centre.device.type, enabled=False)
        with torch.inference_mode(False), exact, limit_threads(work, centre.device):
            return Imputer.fit(network, loss, train, validation, metric, centre=centre, seed=seed)

    if sum(part.nbytes(min(len(part), MAX_FIT_ROWS)) for part in rows) > MAX_DEFERRED_BYTES:
        return LazyImputer(fit(*rows))
    train = SampledRows.of(rows[0])
    validation = train if rows[1] is rows[0] else SampledRows.of(rows[1])
    return LazyImputer(functools.partial(fit, train, validation))
