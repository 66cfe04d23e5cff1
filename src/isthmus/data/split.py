"""Choose held-out rows by their content, so that the choice does not depend on their order."""

from typing import NamedTuple

import numpy as np

from isthmus.types import Array, Index, Source

BLOCK_BYTES = 1 << 26
# Multipliers of splitmix64 (Steele et al. 2014) and its golden-ratio increment.
GOLDEN, MIX_A, MIX_B = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Split(NamedTuple):
    """Row numbers for training and for validation, each ascending."""

    train: Index
    held_out: Index


def blocks(source: Source, rows: Index | None = None, itemsize: int = 8) -> list[Index]:
    """Row numbers in pieces whose dense values stay below 64 MiB."""
    rows = np.arange(len(source)) if rows is None else rows
    size = max(1, BLOCK_BYTES // max(1, source.schema.n_features * itemsize))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def held_out_split(source: Source, rows: Index, weight: Array, fraction: float, seed: int) -> Split:
    """Hold out about `fraction` of the weight of `rows` (ascending row numbers).

    Rows are ranked by a hash of their values and the seed: equal rows fall on the same side, so a
    copy of a training row is never held out; a row of weight 2 counts as two equal rows; and the
    order of the rows changes nothing.
    """
    if fraction <= 0:
        return Split(rows, rows[:0])
    hashes = np.concatenate(
        [_hash_rows(source.read(block), seed) for block in blocks(source, rows)]
    )
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    last_of_group = np.append(ranked[1:] != ranked[:-1], True)
    reached = np.cumsum(weight[order])
    # Only whole groups of equal rows are taken, and never more than was asked for.
    wanted = fraction * reached[-1] * (1 + 1e-9)
    ends = np.flatnonzero(last_of_group & (reached <= wanted))
    taken = int(ends[-1]) + 1 if len(ends) else 0
    return Split(np.sort(rows[order[taken:]]), np.sort(rows[order[:taken]]))


def _hash_rows(values: Array, seed: int) -> Array:
    """(n,) uint64: a hash of each row's bytes."""
    flat = np.ascontiguousarray(values.reshape(len(values), -1) + 0)  # + 0 turns -0.0 into 0.0
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
