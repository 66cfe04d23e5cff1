"""Quantile transform of heavy-tailed columns to normal scores, and its inverse.

A value becomes the normal quantile of its rank among the training rows, interpolated linearly
between stored knots and extrapolated beyond them (van der Waerden 1952). The inverse is exact in
double precision.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from isthmus.data.source import Source, SourceView
from isthmus.types import Array, Index, RowNumbers

MAX_ROWS = 10_000
"""Evenly spaced rows whose quantiles are measured."""

MAX_KNOTS = 128

HEAVY = 2.5
"""A tail is heavy if its 1 % quantile lies this many times farther from the median than a normal's.

The distance is measured in units of the quartile on its side. An exponential's is 1.6 times as far,
a lognormal's of unit deviation 2.8 times, a Cauchy's 9 times."""

MIN_DISTINCT_VALUES = 20
"""A column with fewer different values is not transformed."""

TAILS, QUARTILES = (0.01, 0.99), (0.25, 0.75)
NORMAL_RATIO = float(ndtri(0.99) / ndtri(0.75))


class QuantileMap(NamedTuple):
    """A strictly increasing piecewise linear map from the values of a column to normal scores."""

    values: tuple[float, ...]
    """The knots: values of the column, ascending."""

    scores: tuple[float, ...]
    """The normal scores of the knots."""

    def transform(self, values: Array) -> Array:
        """(n,): the scores of values; NaN stays NaN."""
        return _interpolate(values, self.values, self.scores)

    def inverse_transform(self, scores: Array) -> Array:
        """(n,): the values of scores."""
        return _interpolate(scores, self.scores, self.values)

    def check(self) -> None:
        """Raise ValueError unless values and scores are strictly increasing."""
        for name, points in (("values", self.values), ("scores", self.scores)):
            steps = np.diff(np.asarray(points, np.float64))
            if len(steps) != len(self.values) - 1 or not (steps > 0).all() or not len(steps):
                raise ValueError(f"the {name} of a quantile map are not strictly increasing")


QuantileMaps = Sequence[QuantileMap | None]
"""The map of each column of a table, None for a column that is not transformed."""

NO_QUANTILE_MAPS: tuple[QuantileMap | None, ...] = ()


def _interpolate(points: Array, xs: Sequence[float], ys: Sequence[float]) -> Array:
    x, y, points = np.asarray(xs), np.asarray(ys), np.asarray(points, np.float64)
    result = np.interp(points, x, y)
    below, above = points < x[0], points > x[-1]
    result[below] = y[0] + (points[below] - x[0]) * ((y[1] - y[0]) / (x[1] - x[0]))
    result[above] = y[-1] + (points[above] - x[-1]) * ((y[-1] - y[-2]) / (x[-1] - x[-2]))
    return np.asarray(result)


def fit_quantile_maps(
    source: Source, rows: RowNumbers, weight: Array, numeric: Index
) -> tuple[QuantileMap | None, ...]:
    """The quantile map of each heavy-tailed column among the `numeric` ones, else None."""
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MAX_ROWS)).round().astype(np.intp)
    values = np.asarray(source.read(np.asarray(rows[chosen])), np.float64)
    maps: list[QuantileMap | None] = [None] * values.shape[1]
    for column in numeric:
        maps[column] = fit_quantile_map(values[:, column], weight[chosen])
    return tuple(maps)


def fit_quantile_map(values: Array, weight: Array) -> QuantileMap | None:
    """The quantile map of (n,) weighted values; None if neither tail is heavy."""
    present = ~np.isnan(values) & (weight > 0)
    distinct, position = np.unique(values[present], return_inverse=True)
    if len(distinct) < MIN_DISTINCT_VALUES:
        return None
    mass = np.bincount(position, weights=weight[present])
    rank = (np.cumsum(mass) - mass / 2) / mass.sum()
    if not is_heavy_tailed(distinct, rank):
        return None
    scores = ndtri(rank)
    wanted = np.linspace(scores[0], scores[-1], MAX_KNOTS)
    picked = (
        np.unique(np.abs(scores[:, None] - wanted).argmin(axis=0))
        if len(distinct) > MAX_KNOTS
        else np.arange(len(distinct))
    )
    return QuantileMap(tuple(distinct[picked].tolist()), tuple(scores[picked].tolist()))


def is_heavy_tailed(values: Array, rank: Array) -> bool:
    """Whether a tail of these ascending values, at these ranks from 0 to 1, is heavy."""
    median = np.interp(0.5, rank, values)
    for tail, quartile in zip(TAILS, QUARTILES, strict=True):
        far, near = abs(np.interp((tail, quartile), rank, values) - median)
        if far > HEAVY * NORMAL_RATIO * near:
            return True
    return False


class QuantileSource(SourceView):
    """Rows of a table with the heavy-tailed columns transformed to normal scores."""

    def __init__(self, source: Source, maps: QuantileMaps) -> None:
        super().__init__(source)
        self.maps, self.remarks = maps, source.remarks

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), D)."""
        return transform(self.source.read(rows), self.maps)


def transform(values: Array, maps: QuantileMaps) -> Array:
    """(n, D) values with each mapped column as its normal scores."""
    scores = np.array(values, np.float64)
    for column, quantiles in enumerate(maps):
        if quantiles is not None:
            scores[:, column] = quantiles.transform(scores[:, column])
    return scores


def inverse_transform(scores: Array, maps: QuantileMaps) -> Array:
    """(n, D) values from normal scores; the inverse of `transform`."""
    values = np.array(scores, np.float64)
    for column, quantiles in enumerate(maps):
        if quantiles is not None:
            values[:, column] = quantiles.inverse_transform(values[:, column])
    return values


def describe_quantile_maps(names: Sequence[str], maps: QuantileMaps) -> str:
    """One line that says which columns are transformed."""
    heavy = [name for name, quantiles in zip(names, maps, strict=True) if quantiles is not None]
    shown = ", ".join(map(repr, heavy[:5])) + (f" and {len(heavy) - 5} more" * (len(heavy) > 5))
    if not heavy:
        return "no column is heavy-tailed, so none is transformed to normal scores"
    return (
        f"{shown} {'is' if len(heavy) == 1 else 'are'} heavy-tailed and scaled by "
        "quantiles to normal scores; errors are in these scores"
    )
