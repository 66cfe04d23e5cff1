"""Normal scores: heavy-tailed columns by their quantiles, there and back.

A value becomes the normal quantile of its rank among the training rows, on a line through stored
knots, so that the way back is exact in double precision (van der Waerden 1952). Beyond the ends
the line goes straight on.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from isthmus.types import Array, Index, Numbers, Source

MOST_ROWS = 10_000
"""Rows whose quantiles are looked at, evenly spaced."""

MOST_KNOTS = 128

HEAVY = 2.5
"""A tail is heavy whose hundredth lies so many times as far from the median, measured by the
quartile on its side, as a normal's; an exponential's is 1.6 times as far, a lognormal's of unit
deviation 2.8 times, a Cauchy's 9 times."""

FEWEST_VALUES = 20
"""Different values of a column below which it has no tail."""

ENDS, QUARTILES = (0.01, 0.99), (0.25, 0.75)
NORMAL = float(ndtri(0.99) / ndtri(0.75))

NO_SCORES: tuple["Knots | None", ...] = ()


class Knots(NamedTuple):
    """A rising line from the values of a column to their scores."""

    values: tuple[float, ...]
    scores: tuple[float, ...]

    def scored(self, values: Array) -> Array:
        """(n,): the scores of values; NaN stays."""
        return _along(values, self.values, self.scores)

    def restored(self, scores: Array) -> Array:
        """(n,): the values of scores."""
        return _along(scores, self.scores, self.values)

    def check(self) -> None:
        """Raise ValueError where the line does not rise."""
        for name, points in (("values", self.values), ("scores", self.scores)):
            steps = np.diff(np.asarray(points, np.float64))
            if len(steps) != len(self.values) - 1 or not (steps > 0).all() or not len(steps):
                raise ValueError(f"the {name} of a line of scores do not rise")


def _along(at: Array, xs: Sequence[float], ys: Sequence[float]) -> Array:
    x, y, at = np.asarray(xs), np.asarray(ys), np.asarray(at, np.float64)
    found = np.interp(at, x, y)
    below, above = at < x[0], at > x[-1]
    found[below] = y[0] + (at[below] - x[0]) * ((y[1] - y[0]) / (x[1] - x[0]))
    found[above] = y[-1] + (at[above] - x[-1]) * ((y[-1] - y[-2]) / (x[-1] - x[-2]))
    return np.asarray(found)


def learn_scores(
    source: Source, rows: Numbers, weight: Array, numeric: Index
) -> tuple[Knots | None, ...]:
    """For each column of a table its line, None where it is not heavy-tailed or no number."""
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).round().astype(np.intp)
    values = np.asarray(source.read(np.asarray(rows[chosen])), np.float64)
    lines: list[Knots | None] = [None] * values.shape[1]
    for at in numeric:
        lines[at] = line_of(values[:, at], weight[chosen])
    return tuple(lines)


def line_of(values: Array, weight: Array) -> Knots | None:
    """The line of (n,) weighted values, None where no tail of theirs is heavy."""
    known = ~np.isnan(values) & (weight > 0)
    levels, place = np.unique(values[known], return_inverse=True)
    if len(levels) < FEWEST_VALUES:
        return None
    mass = np.bincount(place, weights=weight[known])
    rank = (np.cumsum(mass) - mass / 2) / mass.sum()
    if not is_heavy(levels, rank):
        return None
    scores = ndtri(rank)
    wanted = np.linspace(scores[0], scores[-1], MOST_KNOTS)
    picked = (
        np.unique(np.abs(scores[:, None] - wanted).argmin(axis=0))
        if (len(levels) > MOST_KNOTS)
        else np.arange(len(levels))
    )
    return Knots(tuple(levels[picked].tolist()), tuple(scores[picked].tolist()))


def is_heavy(levels: Array, rank: Array) -> bool:
    """Whether a tail of these ascending values, at these ranks from 0 to 1, is heavy."""
    median = np.interp(0.5, rank, levels)
    for end, quartile in zip(ENDS, QUARTILES, strict=True):
        far, near = abs(np.interp((end, quartile), rank, levels) - median)
        if far > HEAVY * NORMAL * near:
            return True
    return False


class ScoredSource:
    """Rows of a table whose heavy-tailed columns are their scores."""

    def __init__(self, source: Source, scores: Sequence[Knots | None]) -> None:
        self.source, self.scores = source, scores
        self.schema, self.origin = source.schema, source.origin
        self.remarks: tuple[str, ...] = getattr(source, "remarks", ())

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.source)

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), D)."""
        return scored(self.source.read(rows), self.scores)


def scored(values: Array, scores: Sequence[Knots | None]) -> Array:
    """(n, D) values with the columns that have a line as their scores."""
    return _each(values, scores, Knots.scored)


def restored(values: Array, scores: Sequence[Knots | None]) -> Array:
    """The way back."""
    return _each(values, scores, Knots.restored)


def _each(
    values: Array, scores: Sequence[Knots | None], way: Callable[[Knots, Array], Array]
) -> Array:
    found = np.array(values, np.float64)
    for at, line in enumerate(scores):
        if line is not None:
            found[:, at] = way(line, found[:, at])
    return found


def in_words(names: Sequence[str], scores: Sequence[Knots | None]) -> str:
    """Which columns are scored, in one line."""
    heavy = [name for name, line in zip(names, scores, strict=True) if line is not None]
    shown = ", ".join(map(repr, heavy[:5])) + (f" and {len(heavy) - 5} more" * (len(heavy) > 5))
    return (
        f"{shown or 'no columns'} {'is' if len(heavy) == 1 else 'are'} heavy-tailed and scaled by "
        "quantiles to normal scores, in which errors are told"
    )
