"""Hold out whole stretches of recordings: windows that share samples say nothing new of each other.

Rows are told by their extents (n, 3): the recording, and the samples where a row begins and ends.
"""

import numpy as np

from isthmus.types import Array, Index, Source

MOST_STRETCHES = 10
LEAST_LEFT = 0.5
"""Of the rows that are not wanted apart, the share that must remain to learn from."""


def extents_of(source: Source) -> Index | None:
    """(n, 3), where rows are windows of recordings, several of one; else None."""
    where: Index | None = getattr(source, "extents", None)
    if where is None or not (np.diff(where[:, 0]) == 0).any():
        return None
    return where


def hold_out_stretches(
    where: Index, weight: Array, wanted: float, seed: int
) -> tuple[Array, Array]:
    """(n,) bool each: rows held out, of about the `wanted` weight, and those that may be learned.

    Stretches are chosen from the seed: up to ten of them, fewer where so many would cost more rows,
    which share samples with them, than they hold. Where too few rows would remain, one stretch at
    an end of the longest recording is tried, and then nothing is held out.
    """
    nothing = np.zeros(len(where), bool)
    size = wanted / weight.sum() * len(where)
    stretches = int(np.clip(size / max(2 * _neighbours(where), 1), 1, MOST_STRETCHES))
    blocks = _blocks(where, max(size / stretches, 1.0))
    order = np.random.default_rng(seed).permutation(len(blocks))
    chosen = _as_many_as(wanted, [blocks[i] for i in order], weight)
    longest = np.bincount(where[:, 0]).argmax()
    mine = np.flatnonzero(where[:, 0] == longest)
    some = max(round(size), 1)
    for tried in (chosen, mine[-some:], mine[:some]):
        held = nothing.copy()
        held[tried] = True
        free = ~shares_samples(where, where[held])
        if weight[free].sum() >= LEAST_LEFT * (weight.sum() - wanted):
            return held, free
    return nothing, ~nothing


def shares_samples(where: Index, others: Index) -> Array:
    """(n,) bool: whether a row has a sample in common with any of the others."""
    last = max(int(where[:, 2].max()), int(others[:, 2].max(initial=0)))
    starts, stops = (where[:, :1] * last + where[:, 1:]).T
    other_starts, other_stops = np.sort(others[:, :1] * last + others[:, 1:], axis=0).T
    # The first of the others that ends behind the beginning of a row.
    first = np.searchsorted(other_stops, starts, side="right")
    begins = np.append(other_starts, np.iinfo(np.intp).max)[first]
    return np.asarray(begins < stops)


def most_shared(where: Index) -> int:
    """With how many rows one shares samples at most, itself among them."""
    last = int(where[:, 2].max())
    starts, stops = np.sort(where[:, :1] * last + where[:, 1:], axis=0).T
    begun = np.searchsorted(starts, where[:, 0] * last + where[:, 2], side="left")
    ended = np.searchsorted(stops, where[:, 0] * last + where[:, 1], side="right")
    return int((begun - ended).max())


def count_independent(where: Index) -> int:
    """How many rows' worth of different samples there are."""
    last = int(where[:, 2].max())
    flat = np.sort(where[:, :1] * last + where[:, 1:], axis=0)
    reached = np.concatenate([[-1], np.maximum.accumulate(flat[:-1, 1])])
    new = flat[:, 1] - np.maximum(flat[:, 0], reached)
    return max(int(np.maximum(new, 0).sum()) // int((where[:, 2] - where[:, 1]).max()), 1)


def _neighbours(where: Index) -> int:
    """How many rows behind it a row shares samples with, at most."""
    last = int(where[:, 2].max())
    starts, stops = (where[:, :1] * last + where[:, 1:]).T
    behind = np.searchsorted(starts, stops, side="left") - np.arange(1, len(where) + 1)
    same = np.searchsorted(where[:, 0], where[:, 0], side="right") - np.arange(1, len(where) + 1)
    return int(np.minimum(behind, same).max())


def _blocks(where: Index, size: float) -> list[Index]:
    """Positions in pieces of about `size`, none of which lies in two recordings."""
    recordings = np.split(np.arange(len(where)), np.flatnonzero(np.diff(where[:, 0])) + 1)
    return [
        piece
        for rows in recordings
        for piece in np.array_split(rows, max(round(len(rows) / size), 1))
    ]


def _as_many_as(wanted: float, blocks: list[Index], weight: Array) -> Index:
    """The first blocks, as long as they do not weigh much more than is wanted."""
    taken, total = [blocks[0]], float(weight[blocks[0]].sum())
    for block in blocks[1:]:
        more = float(weight[block].sum())
        if total + more <= wanted * 1.05:
            taken.append(block)
            total += more
    return np.sort(np.concatenate(taken))
