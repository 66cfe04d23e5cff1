"""The training rows of a detector: all rows in memory, or a random sample of rows on disk."""

import warnings

import numpy as np

from isthmus.data.arrays import ArraySource
from isthmus.data.on_disk import numbers_per_row
from isthmus.data.source import Source
from isthmus.data.splitting.holdout import read_blocks
from isthmus.detector.memory import MAX_ROWS
from isthmus.types import Array, Index

MAX_SAMPLE_BYTES = 1 << 26
"""Size of the sample in double precision: 64 MiB."""


class SampledSource(ArraySource):
    """A sample of the rows of a source on disk, held in memory."""

    def __init__(self, values: Array, rows: Index, source: Source) -> None:
        super().__init__(values, source.schema, origin=source.origin)
        self.extents = None if source.extents is None else source.extents[rows]


def sample_to_memory(source: Source, seed: int) -> tuple[Source, Index]:
    """A source of rows in memory, and the numbers (m,) of these rows in `source`.

    Rows in memory are all used. Of rows on disk at most 64 MiB and 100,000 rows are drawn at
    random; a UserWarning reports if these are not all.
    """
    if not _is_on_disk(source):
        return source, np.arange(len(source))
    size = min(MAX_ROWS, max(2, MAX_SAMPLE_BYTES // (8 * max(numbers_per_row(source.schema), 1))))
    if size < len(source):  # drawn without an array that has an entry for each row
        rows = np.sort(np.random.default_rng(seed).choice(len(source), size, False, shuffle=False))
    else:
        rows = np.arange(len(source))
    values, rows = _read(source, rows)
    if len(rows) < len(source):
        warnings.warn(
            f"{source.origin}: the detector is fitted on {len(rows)} of {len(source)} rows, drawn "
            "at random; the others stay on disk",
            UserWarning,
            stacklevel=3,
        )
    return SampledSource(values, rows, source), rows


def _is_on_disk(source: Source) -> bool:
    """Whether the rows, or the recordings that they are cut from, are read from disk."""
    return source.reads_disk or any(part.reads_disk for part in source.parts)


def _read(source: Source, rows: Index) -> tuple[Array, Index]:
    """The values of `rows`, and the row numbers.

    If only other rows have missing values, the first of those is added: a network must be trained
    with missing values to support them.
    """
    parts, incomplete = [], None
    for block, values in read_blocks(source):
        low, high = np.searchsorted(rows, (block[0], block[-1] + 1))
        parts.append(values[rows[low:high] - block[0]])
        if incomplete is None and values.dtype.kind == "f" and np.isnan(values).any():
            index = int(np.isnan(values).reshape(len(values), -1).any(axis=1).argmax())
            incomplete = int(block[index]), values[index].copy()
    sample = np.concatenate(parts)
    if incomplete is None or np.isnan(sample).any():
        return sample, rows
    row, value = incomplete
    position = int(np.searchsorted(rows, row))
    return np.insert(sample, position, value, axis=0), np.insert(rows, position, row)
