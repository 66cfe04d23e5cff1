"""Choose held-out rows by their content, so that the choice does not depend on their order."""

import hashlib
from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from isthmus.data.arrays import glance
from isthmus.data.on_disk import CHUNK_BYTES, is_on_disk
from isthmus.data.prefetch import ahead
from isthmus.data.row_numbers import AllBut, Pieces
from isthmus.data.splitting.segments import count_independent, extents_of, hold_out_stretches
from isthmus.types import Array, Index, Numbers, Source

BLOCK_BYTES = 1 << 26
# Multipliers of splitmix64 (Steele et al. 2014) and its golden-ratio increment.
GOLDEN, MIX_A, MIX_B = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Split(NamedTuple):
    """Row numbers for training and for validation, each ascending."""

    train: Numbers
    validation: Index


def blocks(source: Source, rows: Numbers | None = None, itemsize: int = 8) -> Pieces:
    """Row numbers in pieces whose dense values stay below 64 MiB; streamed ones below 16 MiB."""
    rows = AllBut(len(source)) if rows is None else rows
    most = CHUNK_BYTES if is_on_disk(source) else BLOCK_BYTES
    return Pieces(rows, max(1, most // max(1, source.schema.n_features * itemsize)))


def read_blocks(source: Source, rows: Numbers | None = None) -> Generator[tuple[Index, Array]]:
    """The same pieces with their values; those of a streamed source are read ahead by a thread."""

    def read(block: Index) -> tuple[Index, Array]:
        return block, glance(source, block)

    return ahead(read, blocks(source, rows), depth=1 if is_on_disk(source) else 0)


def validation_split(
    source: Source, rows: Index, weight: Array, fraction: float, seed: int
) -> Split:
    """Hold out about `fraction` of the weight of `rows` (ascending row numbers).

    Rows are ranked by a hash of their values and the seed: equal rows fall on the same side, so a
    copy of a training row is never held out; a row of weight 2 counts as two equal rows; and the
    order of the rows changes nothing. Rows that come very often always train, and `fraction` is
    then that of all others (`whole_groups`). Of windows of recordings, whole stretches are held out
    (`stretches`), and windows that share samples with them are in neither part.
    """
    if fraction <= 0:
        return Split(rows, rows[:0])
    where = extents_of(source)
    if where is not None:
        held, free = hold_out_stretches(where[rows], weight, fraction * weight.sum(), seed)
        return Split(rows[free], _unlike(source, rows[held], rows[free]))
    _, group = np.unique(hash_rows(source, rows, seed), return_inverse=True)
    size = np.bincount(group, weights=weight)
    most = most_of_a_group(size, fraction * weight.sum())
    taken = whole_groups(size, most, fraction * size[size <= most].sum())
    validation = taken[group]
    return Split(rows[~validation], rows[validation])


def most_of_a_group(size: Array, wanted: float) -> float:
    """The weight from which on equal rows always train.

    A group that would fill half of what is wanted by itself would say little, unless all do.
    """
    return max(wanted / 2, float(size.min()))


def whole_groups(size: Array, most: float, wanted: float) -> Array:
    """(G,) bool: which groups of equal rows, in the order of their hashes, are held out.

    `wanted` is a part of the weight of groups of `most` and less: were it one of all rows, where
    most rows are equal, it might be most of the others, and the network would never see what those
    have. Only whole groups are taken, and never more than was asked for.
    """
    wanted *= 1 + 1e-9
    light = size <= min(most, wanted)
    return np.asarray(light & (np.cumsum(np.where(light, size, 0.0)) <= wanted))


def _unlike(source: Source, rows: Index, others: Index) -> Index:
    """The rows of which no copy is among the others."""
    return rows[~np.isin(hash_rows(source, rows, 0), hash_rows(source, others, 0))]


def count_distinct(source: Source, rows: Numbers) -> int:
    """How many different rows there are among `rows`; windows count for the samples in them."""
    distinct, where = len(np.unique(hash_rows(source, rows, seed=0))), extents_of(source)
    if where is None:
        return distinct
    return min(distinct, count_independent(where[np.asarray(rows)]))


def digest(source: Source) -> str:
    """A short text that changes when any value, or the order of the rows, does."""
    found = hashlib.blake2b(digest_size=16)
    for _, values in read_blocks(source):
        found.update(hashed(values, seed=0).tobytes())
    return found.hexdigest()


def hash_rows(source: Source, rows: Numbers, seed: int) -> Array:
    """(len(rows),) uint64: a hash of each row's values and the seed."""
    hashes = [hashed(values, seed) for _, values in read_blocks(source, rows)]
    return np.concatenate([np.empty(0, np.uint64), *hashes])


def hashed(values: Array, seed: int) -> Array:
    """(n,) uint64: a hash of each row's bytes."""
    flat = np.ascontiguousarray(values.reshape(len(values), -1) + 0)  # + 0 turns -0.0 into 0.0
    if flat.dtype.kind == "f":
        flat[np.isnan(flat)] = np.nan  # NaN comes in many bit patterns too
    raw = flat.view(np.uint8).reshape(len(flat), -1)
    padded = np.zeros((len(raw), -(-raw.shape[1] // 8) * 8), np.uint8)
    padded[:, : raw.shape[1]] = raw
    words = padded.view(np.uint64)
    hashes = np.full(len(words), (seed * GOLDEN) % 2**64, np.uint64)
    for column in range(words.shape[1]):
        hashes = _mix((hashes ^ words[:, column]) + np.uint64(GOLDEN))
    return hashes


def _mix(z: Array) -> Array:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX_A)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX_B)
    return np.asarray(z ^ (z >> np.uint64(31)))
