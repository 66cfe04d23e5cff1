"""What fits of the same rows have in common: worked out once where they are fitted together."""

import hashlib

import torch

from isthmus.counts import LogCounts
from isthmus.data import Preparation, Rows, check_rows, count_distinct, fit_preparation
from isthmus.estimator.settings import FitSettings
from isthmus.estimator.split import TrainValidationSplit, mean_row
from isthmus.pretraining import PCASolution, principal_components
from isthmus.training.concurrent import once
from isthmus.types import Array, Source


def check(source: Source) -> None:
    """Raise DataError unless rows can be learned from; see `check_rows`."""
    once((source,), "checked", lambda: check_rows(source, allow_missing=True, later=True))


def split_of(
    settings: FitSettings, source: Source, weight: Array, validation_source: Source | None
) -> TrainValidationSplit:
    """How the rows are divided; see `Division.of`."""
    told = hashlib.blake2b(weight.tobytes()).digest()
    return once(
        (source, validation_source),
        ("division", settings.validation_fraction, settings.split_seed, told),
        lambda: TrainValidationSplit.of(settings, source, weight, validation_source),
    )


def preparation_of(split: TrainValidationSplit, scaling: str) -> Preparation:
    """How features are scaled; see `data.fit_preparation`."""
    return once(
        (split,),
        ("preparation", scaling),
        lambda: fit_preparation(
            split.source,
            split.train,
            split.train_weight,
            scaling,
            unseen=split.validation,
        ),
    )


def opened(
    split: TrainValidationSplit, preparation: Preparation, dtype: torch.dtype, device: torch.device
) -> tuple[Rows, Rows | None]:
    """The rows to learn from and those to judge by, as the network will see them."""
    seen_as = preparation, dtype, device
    return once(
        (split, preparation),
        ("rows", dtype, device),
        lambda: (split.open_train(*seen_as), split.open_validation(*seen_as)),
    )


def distinct_of(rows: Rows) -> int:
    """How many different rows there are."""
    return once((rows,), "distinct", lambda: count_distinct(rows.source, rows.rows))


def mean_of(rows: Rows) -> torch.Tensor:
    """The mean row; see `mean_row`."""
    return once((rows,), "mean", lambda: mean_row(rows))


def principal_of(
    rows: Rows,
    n_components: int,
    seed: int,
    fill_value: torch.Tensor | float,
    seen: LogCounts | None,
) -> PCASolution:
    """The principal components; see `baselines.principal_components`."""
    return once(
        (rows,),
        ("principal", n_components, seed),
        lambda: principal_components(
            rows, n_components, seed=seed, fill_value=fill_value, seen=seen
        ),
    )
