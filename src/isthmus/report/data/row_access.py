"""Choose rows of a source by fixed rules, and read reconstructions and codes as arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np

from isthmus.data.on_disk import SMALL_BYTES
from isthmus.data.open import open_source
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.data.validate import align
from isthmus.estimator import Autoencoder
from isthmus.types import Array, Index

SAMPLE_BYTES, SAMPLE_ROWS = 1 << 25, 8192
"""Limits of the sample of a streamed source: 32 MiB and so many rows."""


class RowsInMemory(Source):
    """An array of rows with the schema of another source."""

    def __init__(self, values: Array, schema: Schema, origin: str) -> None:
        self.values, self.schema, self.origin = values, schema, origin

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.values)

    def read(self, rows: Index) -> Array:
        """(len(rows), *shape): the chosen rows."""
        return np.asarray(self.values[rows])


def sample_rows(source: Source) -> Index:
    """The rows that a report is about: all, or the cached rows of a streamed source.

    If the fit has cached none, evenly spaced rows are cached here.
    """
    if not source.is_streamed:
        return np.arange(len(source))
    if not len(source.cached_rows):
        most = max(2, min(SAMPLE_ROWS, SAMPLE_BYTES // (8 * source.schema.n_features)))
        source.cache_rows(np.linspace(0, len(source) - 1, min(most, len(source))).astype(np.intp))
    return source.cached_rows


def in_memory(source: Source) -> Source:
    """The source, or evenly spaced rows of a streamed one, as many as fit in 256 MiB."""
    if not source.is_streamed:
        return source
    most = max(2, min(SMALL_BYTES // (8 * source.schema.n_features), len(source)))
    rows = np.linspace(0, len(source) - 1, most).round().astype(np.intp)
    return RowsInMemory(source.read(rows), source.schema, source.origin)


def as_array(rows: Any, schema: Schema) -> Array:
    """(n, *shape): the values of an array, tensor, sparse matrix or frame of this schema."""
    source = align(open_source(rows), schema)
    return source.read(np.arange(len(source)))


def reconstructed(ae: Autoencoder, source: Source) -> Array:
    """(n, *shape): the reconstructions of the rows of `source`, in their own units."""
    return as_array(ae.reconstruct(source), ae.preparation_.schema)


def codes_of(ae: Autoencoder, source: Source) -> Array:
    """(n, K) float64 codes of the rows of `source`."""
    return np.asarray(ae.transform(source), np.float64)


def in_chunks(values: Array, most: int, summary: Callable[..., Array] = np.mean) -> Array:
    """`values` split along the first axis into at most `most` parts, each reduced by `summary`."""
    if len(values) <= most:
        return values
    return np.stack([summary(part, axis=0) for part in np.array_split(values, most)])


def finite(value: float) -> float | None:
    """The value, or None if it is infinite or NaN, which JSON does not allow."""
    return float(value) if np.isfinite(value) else None
