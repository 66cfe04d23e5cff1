"""What is learned of columns of counts: how far they scatter, and what it costs to know nothing."""

from collections.abc import Generator

import numpy as np
from scipy.special import xlogy

from isthmus.counts import LEAST_TOTAL
from isthmus.data.splitting.holdout import read_blocks
from isthmus.types import Array, CountFacts, Index, Numbers, Source

FEWEST_SIZED = 50
"""Columns from which on a row's total tells how deep it was counted, rather than what it is."""


def may_be_sized(n_columns: int, *, counts_alone: bool) -> bool:
    """Whether rows are given size factors unasked."""
    return counts_alone and n_columns >= FEWEST_SIZED


def sizes_of(values: Array, expected: Array) -> Array:
    """(n, 1): total over mean total of (n, C) counts, of what is known; 1 where nothing is."""
    total = np.maximum(np.nansum(values, axis=1), LEAST_TOTAL)
    mean_total = ~np.isnan(values) @ expected
    return np.where(mean_total > 0, total / np.where(mean_total > 0, mean_total, 1.0), 1.0)[:, None]


def learn_counts(
    source: Source, rows: Numbers, weight: Array, places: Index, mean: Array, *, sized: bool
) -> CountFacts:
    """From the counts at the columns `places` (C,) of weighted rows, whose `mean` (C,) is known.

    In two passes: the cost of the negative binomial hangs on its dispersion. That is by moments:
    the mean of (x - s m)^2 is m + dispersion m^2 mean(s^2) where size factors s have mean 1.
    """

    def blocks() -> Generator[tuple[Array, Array, Array, Array]]:
        start = 0
        for block, read in read_blocks(source, rows):
            counts = np.asarray(read, np.float64).reshape(len(block), -1)[:, places]
            known = ~np.isnan(counts)
            size = sizes_of(counts, mean) if sized else np.ones((len(block), 1))
            w = weight[start : start + len(block), None] * known
            start += len(block)
            yield np.where(known, counts, 0.0), w, size, size * rate

    total = np.zeros(len(places))
    sums = {name: np.zeros(len(places)) for name in ("log", "excess", "square", "poisson")}
    square_of_log = np.zeros(len(places))
    rate = np.maximum(mean, _least_rate(weight))
    for counts, w, size, expected in blocks():
        logs = np.log1p(counts / size)
        total += w.sum(axis=0)
        sums["log"] += (w * logs).sum(axis=0)
        square_of_log += (w * logs**2).sum(axis=0)
        sums["excess"] += (w * ((counts - expected) ** 2 - expected)).sum(axis=0)
        sums["square"] += (w * expected**2).sum(axis=0)
        sums["poisson"] += (w * half_deviance(counts, expected, 0 * rate)).sum(axis=0)
    dispersion = np.maximum(sums["excess"], 0) / sums["square"]
    wide = np.zeros(len(places))
    for counts, w, _, expected in blocks():
        wide += (w * half_deviance(counts, expected, dispersion)).sum(axis=0)
    total = np.maximum(total, 1e-300)
    log_mean = sums["log"] / total
    spread = np.sqrt(np.maximum(square_of_log / total - log_mean**2, 0))
    least = _cost_of_one(total)
    return CountFacts(
        sized=sized,
        dispersion=dispersion,
        cost=np.maximum(wide / total, least),
        poisson_cost=np.maximum(sums["poisson"] / total, least),
        log_mean=log_mean,
        log_scale=np.where(spread > 1e-8 * (1 + log_mean), spread, 1.0),
    )


def half_deviance(counts: Array, rate: Array, dispersion: Array) -> Array:
    """Half the deviance of the negative binomial, Poisson's where `dispersion` is 0."""
    spread = np.maximum(dispersion, 1e-20)
    wide = np.log1p(spread * counts) - np.log1p(spread * rate)
    log_ratio = xlogy(counts, counts) - xlogy(counts, rate)
    return np.asarray(log_ratio - (counts + 1 / spread) * wide)


def _least_rate(weight: Array) -> float:
    """Of a column without any count: as if half of one had come."""
    return 0.5 / max(float(weight.sum()), 1.0)


def _cost_of_one(total: Array) -> Array:
    """What one stray count among so many rows costs: no column may cost less to know."""
    rows = np.maximum(total, 2.0)
    return np.asarray(np.log(rows) / rows)
