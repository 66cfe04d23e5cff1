"""Statistics of count columns: size factors, dispersion and the cost of a constant prediction."""

from collections.abc import Generator

import numpy as np
from scipy.special import xlogy

from isthmus.counts import LEAST_TOTAL
from isthmus.data.source import Source
from isthmus.data.splitting.holdout import read_blocks
from isthmus.types import Array, CountFacts, Index, RowNumbers

MIN_COLUMNS_FOR_SIZE_FACTORS = 50
"""With this many columns a row's total measures its sequencing depth rather than its content."""


def choose_size_factors(n_columns: int, *, all_counts: bool) -> bool:
    """Whether rows get size factors by default."""
    return all_counts and n_columns >= MIN_COLUMNS_FOR_SIZE_FACTORS


def size_factors(values: Array, expected: Array) -> Array:
    """(n, 1): total over mean total of (n, C) counts, both over the columns that have a value.

    A row without any value has the size factor 1. `expected` (C,) are the mean counts.
    """
    total = np.maximum(np.nansum(values, axis=1), LEAST_TOTAL)
    mean_total = ~np.isnan(values) @ expected
    return np.where(mean_total > 0, total / np.where(mean_total > 0, mean_total, 1.0), 1.0)[:, None]


def fit_count_facts(
    source: Source,
    rows: RowNumbers,
    weight: Array,
    columns: Index,
    mean: Array,
    *,
    has_size_factors: bool,
) -> CountFacts:
    """The statistics of the count `columns` (C,) of weighted rows; `mean` (C,) are their means.

    Two passes over the rows: the cost of the negative binomial depends on its dispersion. The
    dispersion is a moment estimate: the mean of (x - s m)^2 is m + dispersion m^2 mean(s^2) for
    size factors s of mean 1.
    """

    def blocks() -> Generator[tuple[Array, Array, Array, Array]]:
        start = 0
        for block, values in read_blocks(source, rows):
            counts = np.asarray(values, np.float64).reshape(len(block), -1)[:, columns]
            present = ~np.isnan(counts)
            factor = size_factors(counts, mean) if has_size_factors else np.ones((len(block), 1))
            w = weight[start : start + len(block), None] * present
            start += len(block)
            yield np.where(present, counts, 0.0), w, factor, factor * rate

    total = np.zeros(len(columns))
    sums = {name: np.zeros(len(columns)) for name in ("log", "excess", "square", "poisson")}
    square_of_log = np.zeros(len(columns))
    rate = np.maximum(mean, _min_rate(weight))
    for counts, w, factor, expected in blocks():
        logs = np.log1p(counts / factor)
        total += w.sum(axis=0)
        sums["log"] += (w * logs).sum(axis=0)
        square_of_log += (w * logs**2).sum(axis=0)
        sums["excess"] += (w * ((counts - expected) ** 2 - expected)).sum(axis=0)
        sums["square"] += (w * expected**2).sum(axis=0)
        sums["poisson"] += (w * half_deviance(counts, expected, 0 * rate)).sum(axis=0)
    dispersion = np.maximum(sums["excess"], 0) / sums["square"]
    negative_binomial = np.zeros(len(columns))
    for counts, w, _, expected in blocks():
        negative_binomial += (w * half_deviance(counts, expected, dispersion)).sum(axis=0)
    total = np.maximum(total, 1e-300)
    log_mean = sums["log"] / total
    log_std = np.sqrt(np.maximum(square_of_log / total - log_mean**2, 0))
    min_cost = _cost_of_one_count(total)
    return CountFacts(
        has_size_factors=has_size_factors,
        dispersion=dispersion,
        cost=np.maximum(negative_binomial / total, min_cost),
        poisson_cost=np.maximum(sums["poisson"] / total, min_cost),
        log_mean=log_mean,
        log_scale=np.where(log_std > 1e-8 * (1 + log_mean), log_std, 1.0),
    )


def half_deviance(counts: Array, rate: Array, dispersion: Array) -> Array:
    """Half the deviance of the negative binomial, which is Poisson's if `dispersion` is 0."""
    dispersion = np.maximum(dispersion, 1e-20)
    logs = np.log1p(dispersion * counts) - np.log1p(dispersion * rate)
    log_ratio = xlogy(counts, counts) - xlogy(counts, rate)
    return np.asarray(log_ratio - (counts + 1 / dispersion) * logs)


def _min_rate(weight: Array) -> float:
    """The mean of a column without any count: half a count over all rows."""
    return 0.5 / max(float(weight.sum()), 1.0)


def _cost_of_one_count(total: Array) -> Array:
    """The cost of a single count among `total` rows, the least cost of any column."""
    rows = np.maximum(total, 2.0)
    return np.asarray(np.log(rows) / rows)
