"""Encode the columns of a table as features and decode them: one-hot, or signs for many categories.

A column of up to 64 categories is one-hot encoded. One of L categories beyond that becomes
8 log2(L) random signs, drawn from the position of the category alone. They are far fewer numbers,
and all categories stay nearly equally far apart (Johnson and Lindenstrauss 1984). Decoding picks
the nearest category, as with the output codes of Dietterich and Bakiri (1995).
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from isthmus.data.columns import Column
from isthmus.data.schema import Schema
from isthmus.data.source import Source, SourceView
from isthmus.types import Array, Index

MOST_COMPARED = 1 << 22
"""Categories times rows that are compared at once when the nearest category is searched."""


class ColumnEncoder:
    """Encodes the D columns of a table as E features, in the order of the columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.sizes = tuple(column.n_features for column in self.columns)
        """(D,): how many features each column becomes."""

        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.intp)
        """(D,): the first feature of each column."""

        self.n_features = sum(self.sizes)

    @cached_property
    def _codes(self) -> dict[int, Array]:
        """(categories, size): the features of each category, by the position of its column."""
        return {
            i: _signs(len(column.categories), size) if column.uses_sign_codes else np.eye(size)
            for i, (column, size) in enumerate(zip(self.columns, self.sizes, strict=True))
            if column.role == "categorical"
        }

    def encode(self, values: Array) -> Array:
        """(n, D) columns to (n, E) features; a missing value is missing in all of its features."""
        if not self._codes:
            return np.asarray(values, np.float64)
        features = np.empty((len(values), self.n_features))
        for i, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True)):
            features[:, start : start + size] = self._features(i, values[:, i].astype(np.float64))
        return features

    def _features(self, column: int, values: Array) -> Array:
        if column not in self._codes:
            return values[:, None]
        missing = np.asarray(np.isnan(values))
        features = self._codes[column][np.where(missing, 0, values).astype(np.intp)]
        features[missing] = np.nan
        return features

    def decode(self, features: Array) -> Array:
        """(n, E) features to (n, D) columns: the likeliest category of each categorical column."""
        if not self._codes:
            return features
        values = np.empty((len(features), len(self.columns)))
        for i, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True)):
            values[:, i] = self._values(i, features[:, start : start + size])
        return values

    def _values(self, column: int, features: Array) -> Array:
        if column not in self._codes:
            return np.asarray(features[:, 0])
        missing = np.asarray(np.isnan(features).any(axis=1))
        nearest = _nearest(np.where(missing[:, None], 0.0, features), self._codes[column])
        values: Array = np.where(missing, np.nan, nearest)
        return values

    def column_sums(self, per_feature: Array) -> Array:
        """(..., E) to (..., D): the sum over the features of each column."""
        return np.asarray(np.add.reduceat(per_feature, self.starts, axis=-1))


def _signs(n_categories: int, size: int) -> Array:
    generator = np.random.default_rng(size)
    return np.asarray(generator.choice((-1.0, 1.0), (n_categories, size)) / size**0.5)


def _nearest(features: Array, codes: Array) -> Array:
    """(n,): the position of the nearest of the codes (categories, size), all of equal norm."""
    rows = max(1, MOST_COMPARED // max(len(codes), 1))
    blocks = [features[start : start + rows] for start in range(0, len(features), rows)]
    nearest = [np.argmax(block @ codes.T, axis=1) for block in blocks]
    return np.concatenate(nearest) if nearest else np.zeros(0)


class EncodedSource(SourceView):
    """Rows of a table as the E features that an encoder makes of them."""

    def __init__(self, source: Source, encoder: ColumnEncoder) -> None:
        shape = (encoder.n_features,)
        super().__init__(source, Schema(layout="table", shape=shape, dtypes=("float64",)))
        self.encoder = encoder

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), E)."""
        return self.encoder.encode(self.source.read(rows))
