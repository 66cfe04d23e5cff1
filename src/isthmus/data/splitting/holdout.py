"""Choose validation rows by their content, so that the choice does not depend on their order."""

import hashlib
from collections.abc import Callable, Generator
from typing import NamedTuple

import numpy as np

from isthmus.data.on_disk import CHUNK_BYTES
from isthmus.data.prefetch import prefetch
from isthmus.data.row_numbers import AllRowsExcept, RowBlocks
from isthmus.data.source import Source
from isthmus.data.splitting.segments import (
    count_non_overlapping,
    hold_out_segments,
    window_extents,
)
from isthmus.types import Array, Index, RowNumbers

BLOCK_BYTES = 1 << 26
# Multipliers of splitmix64 (Steele et al. 2014) and its golden-ratio increment.
GOLDEN, MIX_A, MIX_B = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Split(NamedTuple):
    """Row numbers for training and for validation, each ascending."""

    train: RowNumbers
    validation: Index


def row_blocks(source: Source, rows: RowNumbers | None = None, itemsize: int = 8) -> RowBlocks:
    """Row numbers in blocks of at most 64 MiB of dense values, or 16 MiB if read from disk."""
    rows = AllRowsExcept(len(source)) if rows is None else rows
    limit = CHUNK_BYTES if source.reads_disk else BLOCK_BYTES
    return RowBlocks(rows, max(1, limit // max(1, source.schema.n_features * itemsize)))


def read_blocks(source: Source, rows: RowNumbers | None = None) -> Generator[tuple[Index, Array]]:
    """The same blocks with their values; a thread reads ahead if the rows are on disk."""

    def read(block: Index) -> tuple[Index, Array]:
        return block, source.view(block)

    return prefetch(read, row_blocks(source, rows), depth=1 if source.reads_disk else 0)


def validation_split(
    source: Source, rows: Index, weight: Array, fraction: float, seed: int
) -> Split:
    """Choose validation rows of about `fraction` of the weight of `rows` (ascending row numbers).

    Rows are ranked by a hash of their values and the seed. So equal rows are on the same side, a
    row of weight 2 counts as two equal rows, and the order of the rows does not matter. Very
    frequent rows always train, and `fraction` then refers to the others (`select_groups`). If rows
    are windows of recordings, whole segments are chosen (`segments`), and windows that share
    samples with them are in neither part.
    """
    return split_and_count(source, rows, weight, fraction, seed)[0]


def split_and_count(
    source: Source,
    rows: Index,
    weight: Array,
    fraction: float,
    seed: int,
    callback: Callable[[Index, Array], None] | None = None,
) -> tuple[Split, int]:
    """The `validation_split`, and how many validation rows differ (`count_distinct`).

    `callback` gets the numbers and values of all rows of the source, block by block, in the pass
    that computes the hashes. There is no such pass for windows or a fraction of 0.
    """
    if fraction <= 0:
        return Split(rows, rows[:0]), 0
    extents = window_extents(source)
    if extents is not None:
        return _split_windows(source, extents, rows, weight, fraction, seed)
    if callback is None:
        hashes = hash_rows(source, rows, seed)
    else:
        hashes = _hash_all(source, seed, callback)
        hashes = hashes if len(rows) == len(hashes) else hashes[rows]
    _, group = np.unique(hashes, return_inverse=True)
    size = np.bincount(group, weights=weight)
    max_weight = max_group_weight(size, fraction * weight.sum())
    taken = select_groups(size, max_weight, fraction * size[size <= max_weight].sum())
    validation = taken[group]
    return Split(rows[~validation], rows[validation]), int(taken.sum())


def _split_windows(
    source: Source, extents: Index, rows: Index, weight: Array, fraction: float, seed: int
) -> tuple[Split, int]:
    held_out, free = hold_out_segments(extents[rows], weight, fraction * weight.sum(), seed)
    train, validation = rows[free], rows[held_out]
    # No copy of a training row is in the validation rows.
    hashes = hash_rows(source, validation, 0)
    new = ~np.isin(hashes, hash_rows(source, train, 0))
    validation, distinct = validation[new], len(np.unique(hashes[new]))
    if len(validation):
        distinct = min(distinct, count_non_overlapping(extents[validation]))
    return Split(train, validation), distinct


def _hash_all(source: Source, seed: int, callback: Callable[[Index, Array], None]) -> Array:
    """(n,) uint64: the hashes of all rows; `callback` gets their values in the same pass."""
    hashes = [np.empty(0, np.uint64)]
    for block, values in read_blocks(source):
        callback(block, values)
        hashes.append(hash_values(values, seed))
    return np.concatenate(hashes)


def max_group_weight(size: Array, wanted: float) -> float:
    """The weight above which equal rows always train.

    A group that fills half of the validation rows by itself would say little, unless all do.
    """
    return max(wanted / 2, float(size.min()))


def select_groups(size: Array, max_weight: float, wanted: float) -> Array:
    """(G,) bool: which groups of equal rows, in the order of their hashes, are held out.

    `wanted` is a share of the weight of the groups up to `max_weight`. As a share of all rows it
    could be most of the others if most rows are equal, and the network would not see what those
    have. Only whole groups are taken, and never more than wanted.
    """
    wanted *= 1 + 1e-9
    light = size <= min(max_weight, wanted)
    return np.asarray(light & (np.cumsum(np.where(light, size, 0.0)) <= wanted))


def count_distinct(source: Source, rows: RowNumbers) -> int:
    """The number of different rows; windows count for the different samples they hold."""
    distinct, extents = len(np.unique(hash_rows(source, rows, seed=0))), window_extents(source)
    if extents is None:
        return distinct
    return min(distinct, count_non_overlapping(extents[np.asarray(rows)]))


def digest(source: Source) -> str:
    """A short text that changes if any value, or the order of the rows, does."""
    result = hashlib.blake2b(digest_size=16)
    for _, values in read_blocks(source):
        result.update(hash_values(values, seed=0).tobytes())
    return result.hexdigest()


def hash_rows(source: Source, rows: RowNumbers, seed: int) -> Array:
    """(len(rows),) uint64: a hash of each row's values and the seed."""
    hashes = [hash_values(values, seed) for _, values in read_blocks(source, rows)]
    return np.concatenate([np.empty(0, np.uint64), *hashes])


def hash_values(values: Array, seed: int) -> Array:
    """(n,) uint64: a hash of each row's bytes."""
    flat = np.ascontiguousarray(values.reshape(len(values), -1) + 0)  # + 0 turns -0.0 into 0.0
    if flat.dtype.kind == "f":
        flat[np.isnan(flat)] = np.nan  # NaN has many bit patterns too
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
