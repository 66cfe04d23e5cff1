"""Split rows on disk as `validation_split` does, in one to three passes and little memory."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from isthmus.data.row_numbers import AllRowsExcept
from isthmus.data.source import Source
from isthmus.data.splitting.holdout import (
    hash_values,
    max_group_weight,
    read_blocks,
    select_groups,
)
from isthmus.types import Array, Index

VALIDATION_BYTES = 1 << 26
"""The largest size of the validation rows in double precision, whatever share is wanted: 64 MiB."""

SAMPLE_BYTES, SAMPLE_ROWS = 1 << 25, 8192
"""The largest size and number of the training rows that are kept in memory: 32 MiB."""

MAX_KEPT_HASHES = 1 << 21
"""Hashes that are kept with their row numbers; if equal rows need more, only counts are kept."""


class StreamedSplit(NamedTuple):
    """Training and validation rows, and a digest of all rows."""

    train: AllRowsExcept
    validation: Index
    digest: str

    distinct: int
    """How many validation rows differ."""


def _ignore(rows: Index, values: Array) -> None:
    del rows, values


def streamed_split(
    source: Source,
    fraction: float,
    seed: int,
    callback: Callable[[Index, Array], None] = _ignore,
) -> StreamedSplit:
    """Choose about `fraction` of the rows for validation by a hash, as `validation_split` does.

    They take at most 64 MiB. One pass is enough unless rows are equal, which needs up to three.
    `callback` gets the numbers and values of each block in the first pass.
    """
    n = len(source)
    wanted = min(fraction * n, float(max_validation_rows(source)))
    smallest = _SmallestHashes(_enough_hashes(n, wanted))
    frequent = _FrequentHashes(n, wanted / 8)
    digest = hashlib.blake2b(digest_size=16)
    for block, values in read_blocks(source):
        callback(block, values)
        hashes = hash_values(values, seed)
        digest.update(hashes.tobytes())
        smallest.add(hashes, block)
        if smallest.most:
            frequent.add(hashes)
    max_size, eligible = _eligible(source, frequent.above(wanted / 2), wanted, seed)
    taken = smallest.select(max_size, wanted / max(n, 1) * eligible)
    rows = smallest.rows_of(taken)
    if rows is None:
        blocks = read_blocks(source)
        rows = np.concatenate(
            [block[np.isin(hash_values(values, seed), taken)] for block, values in blocks]
        )
    rows = np.sort(rows)
    return StreamedSplit(AllRowsExcept(n, rows), rows, digest.hexdigest(), len(taken))


def max_validation_rows(source: Source) -> int:
    """The largest number of validation rows of a streamed source."""
    return max(1, VALIDATION_BYTES // (8 * source.schema.n_features))


def cache_evenly_spaced(source: Source) -> Index:
    """Keep evenly spaced rows in memory for evaluation, and return their numbers."""
    most = min(max_validation_rows(source), len(source))
    source.cache_rows(np.linspace(0, len(source) - 1, most).round().astype(np.intp))
    return source.cached_rows


def cache_sample(source: Source, split: StreamedSplit) -> None:
    """Keep the validation rows and evenly spaced training rows in memory."""
    most = max(2, min(SAMPLE_ROWS, SAMPLE_BYTES // (8 * source.schema.n_features)))
    most = min(most, len(split.train))
    positions = np.linspace(0, len(split.train) - 1, most).round().astype(np.intp)
    source.cache_rows(np.concatenate([split.validation, split.train[positions]]))


def _enough_hashes(n: int, wanted: float) -> int:
    """How many of the smallest hashes are sure to hold all validation rows.

    Groups of equal rows are taken in the order of their hashes until there are `wanted` rows. Only
    groups of more than half of that are skipped, of which there are at most 2 n / wanted, and as
    many again that are too large for the rest of what is wanted.
    """
    if wanted < 1:
        return 0
    return int(min(wanted + 3 * n / wanted + 2, n))


def _eligible(source: Source, frequent: Array, wanted: float, seed: int) -> tuple[float, int]:
    """The size of the largest group that may be held out, and the rows in groups up to that size.

    `frequent` are the hashes (ascending) that more than half of the wanted rows may have.
    """
    n, size = len(source), _count(source, frequent, seed)
    others = [0] if size.sum() < n else []
    max_size = max_group_weight(np.append(size, others), wanted)
    return max_size, n - int(size[size > max_size].sum())


def _count(source: Source, hashes: Array, seed: int) -> Index:
    """(G,): how many rows have each of some hashes, ascending."""
    size = np.zeros(len(hashes), np.intp)
    if len(hashes):
        for _, values in read_blocks(source):
            row_hashes = hash_values(values, seed)
            index = np.minimum(np.searchsorted(hashes, row_hashes), len(hashes) - 1)
            size += np.bincount(index[hashes[index] == row_hashes], minlength=len(hashes))
    return size


class _FrequentHashes:
    """The most frequent hashes, found with few counters (Misra and Gries 1982)."""

    def __init__(self, n: int, slack: float) -> None:
        self.most = int(min(n / max(slack, 1), n)) + 1
        self.hashes: Array = np.zeros(0, np.uint64)
        self.counts: Index = np.zeros(0, np.intp)
        self.shortfall = 0
        """By how much every count may be too small; at most `slack`."""

    def add(self, hashes: Array) -> None:
        """Count the hashes of more rows."""
        counts = np.concatenate([self.counts, np.ones(len(hashes), np.intp)])
        self.hashes, group = np.unique(np.concatenate([self.hashes, hashes]), return_inverse=True)
        self.counts = np.bincount(group, counts).astype(np.intp)
        if len(self.hashes) > self.most:
            # The largest hash without a counter loses all of its rows, and each counter as many:
            # `most + 1` hashes lose one row at a time, which can happen n / (most + 1) times.
            lost = np.partition(self.counts, -self.most - 1)[-self.most - 1]
            self.shortfall += int(lost)
            stay = self.counts > lost
            self.hashes, self.counts = self.hashes[stay], self.counts[stay] - lost

    def above(self, count: float) -> Array:
        """The hashes, ascending, that may occur more than `count` times."""
        return self.hashes[self.counts + self.shortfall > count]


class _SmallestHashes:
    """The smallest `most` different hashes, how often each occurs and in which rows."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit: np.uint64 | None = None
        self.hashes: Array = np.zeros(0, np.uint64)
        self.counts: Index = np.zeros(0, np.intp)
        self.rows: Index | None = np.zeros(0, np.intp)
        """The row of each hash; None if there are too many, and then all hashes differ."""

    def add(self, hashes: Array, rows: Index) -> None:
        """Take in the hashes of more rows."""
        if not self.most:
            return
        if self.limit is not None:
            low = hashes <= self.limit
            hashes, rows = hashes[low], rows[low]
        self.hashes = np.concatenate([self.hashes, hashes])
        self.counts = np.concatenate([self.counts, np.ones(len(hashes), np.intp)])
        if self.rows is not None:
            self.rows = np.concatenate([self.rows, rows])
        if len(self.hashes) > 4 * self.most:
            self._shrink()

    def _shrink(self) -> None:
        distinct, group = np.unique(self.hashes, return_inverse=True)
        if len(distinct) > self.most:
            self.limit = distinct[self.most - 1]
            low = self.hashes <= self.limit
            self.hashes, self.counts, group = self.hashes[low], self.counts[low], group[low]
            self.rows = None if self.rows is None else self.rows[low]
            distinct = distinct[: self.most]
        if len(self.hashes) > MAX_KEPT_HASHES or self.rows is None:
            counts = np.bincount(group, self.counts, minlength=len(distinct))
            self.hashes, self.counts, self.rows = distinct, counts.astype(np.intp), None

    def select(self, max_size: float, wanted: float) -> Array:
        """The hashes whose rows are held out; see `select_groups`."""
        distinct, group = np.unique(self.hashes, return_inverse=True)
        if not len(distinct):
            return distinct
        return np.asarray(
            distinct[select_groups(np.bincount(group, self.counts), max_size, wanted)]
        )

    def rows_of(self, hashes: Array) -> Index | None:
        """The rows with these hashes; None if there were too many rows to keep."""
        return None if self.rows is None else self.rows[np.isin(self.hashes, hashes)]
