"""Columns to features and back: a category is one number a level, or a code where it has many.

A column of up to 64 levels is as many features, of which one is 1 and the others are 0. One of L
levels beyond is 8 log2(L) random signs, drawn from the position of the level alone: far fewer
numbers, in which all levels are nearly as far apart as they were (Johnson and Lindenstrauss 1984),
and from which the nearest level is read back, as from the output codes of Dietterich and Bakiri
(1995).
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from isthmus.data.columns import Column, coded, width
from isthmus.types import Array, Index, Source

AT_ONCE = 1 << 22
"""Levels times rows that are compared at once where the nearest level is looked for."""


class Expansion:
    """What the D columns of a table are as E features, in the order of the columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.sizes = tuple(map(width, self.columns))
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.intp)
        self.n_features = sum(self.sizes)

    @cached_property
    def _codes(self) -> dict[int, Array]:
        """(levels, size): the features of each level, by the position of a category."""
        return {
            at: _signs(len(column.levels), size) if coded(column) else np.eye(size)
            for at, (column, size) in enumerate(zip(self.columns, self.sizes, strict=True))
            if column.role == "categorical"
        }

    def expand(self, values: Array) -> Array:
        """(n, D) columns to (n, E) features; a missing value is missing in all of its features."""
        if not self._codes:
            return np.asarray(values, np.float64)
        features = np.empty((len(values), self.n_features))
        for at, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True)):
            features[:, start : start + size] = self._features(at, values[:, at].astype(np.float64))
        return features

    def _features(self, at: int, values: Array) -> Array:
        if at not in self._codes:
            return values[:, None]
        missing = np.asarray(np.isnan(values))
        features = self._codes[at][np.where(missing, 0, values).astype(np.intp)]
        features[missing] = np.nan
        return features

    def collapse(self, features: Array) -> Array:
        """(n, E) features to (n, D) columns: the likeliest level of each category."""
        if not self._codes:
            return features
        values = np.empty((len(features), len(self.columns)))
        for at, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True)):
            values[:, at] = self._values(at, features[:, start : start + size])
        return values

    def _values(self, at: int, features: Array) -> Array:
        if at not in self._codes:
            return np.asarray(features[:, 0])
        missing = np.asarray(np.isnan(features).any(axis=1))
        found = _nearest(np.where(missing[:, None], 0.0, features), self._codes[at])
        values: Array = np.where(missing, np.nan, found)
        return values

    def sums(self, per_feature: Array) -> Array:
        """(..., E) to (..., D): the sum over the features of each column."""
        return np.asarray(np.add.reduceat(per_feature, self.starts, axis=-1))


def _signs(levels: int, size: int) -> Array:
    generator = np.random.default_rng(size)
    return np.asarray(generator.choice((-1.0, 1.0), (levels, size)) / size**0.5)


def _nearest(features: Array, codes: Array) -> Array:
    """(n,): which of the codes (levels, size), all of one length, is nearest."""
    rows = max(1, AT_ONCE // max(len(codes), 1))
    blocks = [features[at : at + rows] for at in range(0, len(features), rows)]
    found = [np.argmax(block @ codes.T, axis=1) for block in blocks]
    return np.concatenate(found) if found else np.zeros(0)


class ExpandedSource:
    """Rows of a table as their features, for whoever looks at nothing but `n_features`."""

    def __init__(self, source: Source, expansion: Expansion) -> None:
        self.source, self.expansion, self.origin = source, expansion, source.origin
        self.schema = _Wide(expansion.n_features)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.source)

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), E)."""
        return self.expansion.expand(self.source.read(rows))


class _Wide:
    """As much of a schema as reading in blocks needs."""

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features
