"""Which rows to learn from where they stay on disk: some that fit in memory, from the seed."""

import warnings
from typing import Any

import numpy as np

from isthmus.data import is_on_disk, read_blocks
from isthmus.data.arrays import ArraySource
from isthmus.data.on_disk import width_of
from isthmus.detector.memory import MOST_REMEMBERED
from isthmus.types import Array, Index, Source

DRAWN_BYTES = 1 << 26
"""What the rows that are learned take as numbers of double precision: 64 MiB."""


class Drawn(ArraySource):
    """Some rows of a source on disk, in memory."""

    def __init__(self, values: Array, rows: Index, source: Source) -> None:
        super().__init__(values, source.schema, origin=source.origin)
        where = getattr(source, "extents", None)
        self.extents: Index | None = None if where is None else where[rows]


def learnable(source: Source, seed: int) -> tuple[Source, Index]:
    """A source that a detector can hold in memory, and which rows (m,) of `source` it has.

    Rows in memory are all there. Of rows on disk as many are as 64 MiB hold, and no more than
    100,000, which is as many as are remembered; a UserWarning tells where these are not all.
    """
    if not _stays_on_disk(source):
        return source, np.arange(len(source))
    most = min(MOST_REMEMBERED, max(2, DRAWN_BYTES // (8 * max(width_of(source.schema), 1))))
    if most < len(source):  # no array then has a number for each row
        rows = np.sort(np.random.default_rng(seed).choice(len(source), most, False, shuffle=False))
    else:
        rows = np.arange(len(source))
    values, rows = _read(source, rows)
    if len(rows) < len(source):
        warnings.warn(
            f"{source.origin}: {len(rows)} of {len(source)} rows were learned from, drawn from the "
            "seed; the others stay on disk",
            UserWarning,
            stacklevel=3,
        )
    return Drawn(values, rows, source), rows


def _stays_on_disk(source: Any) -> bool:
    """Whether rows are read from disk, or recordings that they are cut from."""
    return is_on_disk(source) or any(map(is_on_disk, getattr(source, "parts", ())))


def _read(source: Source, rows: Index) -> tuple[Array, Index]:
    """The rows, and one with a gap where there are some elsewhere: gaps must be learned too."""
    parts, gappy = [], None
    for block, values in read_blocks(source):
        low, high = np.searchsorted(rows, (block[0], block[-1] + 1))
        parts.append(values[rows[low:high] - block[0]])
        if gappy is None and values.dtype.kind == "f" and np.isnan(values).any():
            at = int(np.isnan(values).reshape(len(values), -1).any(axis=1).argmax())
            gappy = int(block[at]), values[at].copy()
    found = np.concatenate(parts)
    if gappy is None or np.isnan(found).any():
        return found, rows
    row, value = gappy
    place = int(np.searchsorted(rows, row))
    return np.insert(found, place, value, axis=0), np.insert(rows, place, row)
