"""Held-out rows of data on disk: those that `held_out_split` takes, in memory that stays small."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from isthmus.data.on_disk import Blocks
from isthmus.data.row_numbers import AllBut
from isthmus.data.splitting.holdout import hashed, most_of_a_group, read_blocks, whole_groups
from isthmus.types import Array, Index

VALIDATION_BYTES = 1 << 26
"""Held-out rows take no more than this as numbers of double precision, however many are wanted."""

SAMPLE_BYTES, SAMPLE_ROWS = 1 << 25, 8192
"""Training rows that are kept in memory to look at: so many, and no more than 32 MiB."""

MOST_KEPT = 1 << 21
"""Hashes with their rows that are kept at a time; where equal rows need more, counts alone are."""


class StreamSplit(NamedTuple):
    """Which rows are held out, and what tells all rows from others."""

    train: AllBut
    validation: Index
    digest: str


def _unseen(rows: Index, values: Array) -> None:
    del rows, values


def streamed_split(
    source: Blocks, fraction: float, seed: int, look: Callable[[Index, Array], None] = _unseen
) -> StreamSplit:
    """Hold out about `fraction` of the rows by a hash of their values, as `held_out_split` does.

    At most as many as take 64 MiB. One pass tells which; where rows are equal, up to three. Whoever
    wants to `look` at the rows on the way is given their numbers and values, block by block.
    """
    n = len(source)
    wanted = min(fraction * n, float(most_validation(source)))
    smallest, largest = _Smallest(_enough(n, wanted)), _Largest(n, wanted / 8)
    digest = hashlib.blake2b(digest_size=16)
    for block, values in read_blocks(source):
        look(block, values)
        hashes = hashed(values, seed)
        digest.update(hashes.tobytes())
        smallest.add(hashes, block)
        if smallest.most:
            largest.add(hashes)
    most, rare = _rare(source, largest.above(wanted / 2), wanted, seed)
    taken = smallest.lightest(most, wanted / max(n, 1) * rare)
    rows = smallest.rows_of(taken)
    if rows is None:
        found = (b[np.isin(hashed(v, seed), taken)] for b, v in read_blocks(source))
        rows = np.concatenate(list(found))
    rows = np.sort(rows)
    return StreamSplit(AllBut(n, rows), rows, digest.hexdigest())


def most_validation(source: Blocks) -> int:
    """How many rows of a source may be held out."""
    return max(1, VALIDATION_BYTES // (8 * source.schema.n_features))


def pin_spread(source: Blocks) -> Index:
    """Keep some rows in memory to judge by, evenly spaced; which those are."""
    most = min(most_validation(source), len(source))
    source.pin(np.linspace(0, len(source) - 1, most).round().astype(np.intp))
    return source.pinned


def pin_sample(source: Blocks, split: StreamSplit) -> None:
    """Keep the held-out rows in memory, and training rows, evenly spaced, to look at."""
    most = max(2, min(SAMPLE_ROWS, SAMPLE_BYTES // (8 * source.schema.n_features)))
    most = min(most, len(split.train))
    at = np.linspace(0, len(split.train) - 1, most).round().astype(np.intp)
    source.pin(np.concatenate([split.validation, split.train[at]]))


def _enough(n: int, wanted: float) -> int:
    """How many of the smallest hashes hold all that can be taken.

    Groups of equal rows are taken in the order of their hashes, until there are `wanted` rows; only
    those of more than half of that are passed over, of which there are but 2 n / wanted, and as
    many again that are too large for what is wanted of the others.
    """
    if wanted < 1:
        return 0
    return int(min(wanted + 3 * n / wanted + 2, n))


def _rare(source: Blocks, often: Array, wanted: float, seed: int) -> tuple[float, int]:
    """The most rows that are equal and may be held out, and how many there are of no more.

    `often` are the hashes (ascending) of which there may be more than half of what is wanted.
    """
    n, size = len(source), _count(source, often, seed)
    others = [0] if size.sum() < n else []
    most = most_of_a_group(np.append(size, others), wanted)
    return most, n - int(size[size > most].sum())


def _count(source: Blocks, hashes: Array, seed: int) -> Index:
    """(G,): how many rows have each of some hashes, ascending."""
    size = np.zeros(len(hashes), np.intp)
    if len(hashes):
        for _, values in read_blocks(source):
            found = hashed(values, seed)
            at = np.minimum(np.searchsorted(hashes, found), len(hashes) - 1)
            size += np.bincount(at[hashes[at] == found], minlength=len(hashes))
    return size


class _Largest:
    """Those hashes that come often, by counters of which there are few (Misra and Gries 1982)."""

    def __init__(self, n: int, slack: float) -> None:
        self.most = int(min(n / max(slack, 1), n)) + 1
        self.hashes: Array = np.zeros(0, np.uint64)
        self.counts: Index = np.zeros(0, np.intp)
        self.short = 0
        """How much every count may be too small by; never more than `slack`."""

    def add(self, hashes: Array) -> None:
        """Learn of some more rows."""
        counts = np.concatenate([self.counts, np.ones(len(hashes), np.intp)])
        self.hashes, which = np.unique(np.concatenate([self.hashes, hashes]), return_inverse=True)
        self.counts = np.bincount(which, counts).astype(np.intp)
        if len(self.hashes) > self.most:
            # The largest that has no counter pays with all of its rows, and so does each counter:
            # one row is lost in `most + 1` places at a time, hence n / (most + 1) at most.
            lost = np.partition(self.counts, -self.most - 1)[-self.most - 1]
            self.short += int(lost)
            stay = self.counts > lost
            self.hashes, self.counts = self.hashes[stay], self.counts[stay] - lost

    def above(self, count: float) -> Array:
        """The hashes, ascending, of which there may be more than so many."""
        return self.hashes[self.counts + self.short > count]


class _Smallest:
    """The smallest `most` different hashes of all, how often each came and in which rows."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit: np.uint64 | None = None
        self.hashes: Array = np.zeros(0, np.uint64)
        self.counts: Index = np.zeros(0, np.intp)
        self.rows: Index | None = np.zeros(0, np.intp)
        """Of each hash one; None where there are too many, and `hashes` are different ones."""

    def add(self, hashes: Array, rows: Index) -> None:
        """Learn of some more rows."""
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
        different, which = np.unique(self.hashes, return_inverse=True)
        if len(different) > self.most:
            self.limit = different[self.most - 1]
            low = self.hashes <= self.limit
            self.hashes, self.counts, which = self.hashes[low], self.counts[low], which[low]
            self.rows = None if self.rows is None else self.rows[low]
            different = different[: self.most]
        if len(self.hashes) > MOST_KEPT or self.rows is None:
            counts = np.bincount(which, self.counts, minlength=len(different))
            self.hashes, self.counts, self.rows = different, counts.astype(np.intp), None

    def lightest(self, most: float, wanted: float) -> Array:
        """The hashes whose rows are held out, by the rule of `held_out_split`."""
        different, which = np.unique(self.hashes, return_inverse=True)
        if not len(different):
            return different
        return np.asarray(different[whole_groups(np.bincount(which, self.counts), most, wanted)])

    def rows_of(self, hashes: Array) -> Index | None:
        """The rows that have one of these hashes; None where rows were too many to be kept."""
        return None if self.rows is None else self.rows[np.isin(self.hashes, hashes)]
