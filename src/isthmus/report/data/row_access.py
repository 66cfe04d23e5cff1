"""Choose some rows of a source by fixed rules, and read whatever rows come back as as numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from isthmus.data import Schema, align, is_streamed, open_source
from isthmus.data.on_disk import SMALL_BYTES
from isthmus.types import Array, Index, Source


class Held:
    """Rows in memory under another source's schema."""

    def __init__(self, values: Array, schema: Any, origin: str) -> None:
        self.values, self.schema, self.origin = values, schema, origin

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.values)

    def read(self, rows: Index) -> Array:
        """The chosen rows."""
        return np.asarray(self.values[rows])


SAMPLE_BYTES, SAMPLE_ROWS = 1 << 25, 8192
"""Of rows that stay on disk so many are looked at, and no more than 32 MiB."""


def looked_at(source: Source) -> Index:
    """The rows that a page is about: all, or of rows on disk those in memory.

    Where a fit has put none there, some that are evenly spaced are.
    """
    if not is_streamed(source):
        return np.arange(len(source))
    if not len(source.pinned):
        most = max(2, min(SAMPLE_ROWS, SAMPLE_BYTES // (8 * source.schema.n_features)))
        source.pin(np.linspace(0, len(source) - 1, min(most, len(source))).astype(np.intp))
    return source.pinned


def in_memory(source: Source) -> Source:
    """A source as it is, or as many rows of one on disk as fit in 256 MiB, evenly spaced."""
    if not is_streamed(source):
        return source
    most = max(2, min(SMALL_BYTES // (8 * source.schema.n_features), len(source)))
    at = np.linspace(0, len(source) - 1, most).round().astype(np.intp)
    return Held(source.read(at), source.schema, source.origin)


def numbers(rows: Any, schema: Schema) -> Array:
    """(n, *shape): the values of an array, tensor, sparse matrix or frame of this schema."""
    source = align(open_source(rows), schema)
    return source.read(np.arange(len(source)))


def rebuilt(ae: Any, source: Source) -> Array:
    """(n, *shape): the rows of `source` after a round trip through the code, as they come back."""
    return numbers(ae.reconstruct(source), ae.preparation_.schema)


def codes_of(ae: Any, source: Source) -> Array:
    """(n, K) float64 codes of the rows of `source`."""
    return np.asarray(ae.transform(source), np.float64)


def in_chunks(values: Array, most: int, summary: Callable[..., Array] = np.mean) -> Array:
    """`values` along the first axis in at most `most` pieces, each made one by `summary`."""
    if len(values) <= most:
        return values
    return np.stack([summary(part, axis=0) for part in np.array_split(values, most)])
