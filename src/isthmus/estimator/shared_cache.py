"""What fits of the same rows have in common: worked out once where they are fitted together."""

import hashlib

import torch

from isthmus.counts import CountsSeen
from isthmus.data import Preparation, Rows, check_rows, count_distinct, fit_preparation
from isthmus.estimator.settings import Request
from isthmus.estimator.split import Division, mean_row
from isthmus.pretraining import PCASolution, principal_components
from isthmus.training.concurrent import once
from isthmus.types import Array, Source


def check(source: Source) -> None:
    """Raise DataError unless rows can be learned from; see `check_rows`."""
    once((source,), "checked", lambda: check_rows(source, gaps=True, later=True))


def division_of(
    request: Request, source: Source, weight: Array, validation: Source | None
) -> Division:
    """How the rows are divided; see `Division.of`."""
    told = hashlib.blake2b(weight.tobytes()).digest()
    return once(
        (source, validation),
        ("division", request.validation_fraction, request.split_seed, told),
        lambda: Division.of(request, source, weight, validation),
    )


def preparation_of(division: Division, scaling: str) -> Preparation:
    """How features are scaled; see `data.fit_preparation`."""
    return once(
        (division,),
        ("preparation", scaling),
        lambda: fit_preparation(
            division.source,
            division.train,
            division.train_weight,
            scaling,
            unseen=division.held_out,
        ),
    )


def opened(
    division: Division, preparation: Preparation, dtype: torch.dtype, device: torch.device
) -> tuple[Rows, Rows | None]:
    """The rows to learn from and those to judge by, as the network will see them."""
    seen_as = preparation, dtype, device
    return once(
        (division, preparation),
        ("rows", dtype, device),
        lambda: (division.open_train(*seen_as), division.open_held_out(*seen_as)),
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
    stand_in: torch.Tensor | float,
    seen: CountsSeen | None,
) -> PCASolution:
    """The principal components; see `baselines.principal_components`."""
    return once(
        (rows,),
        ("principal", n_components, seed),
        lambda: principal_components(rows, n_components, seed=seed, stand_in=stand_in, seen=seen),
    )
