"""Hold out whole segments of recordings, since windows that share samples are not independent.

Rows are described by their extents (n, 3): the recording, and the samples where a row begins and
ends.
"""

import numpy as np

from isthmus.data.source import Source
from isthmus.types import Array, Index

MAX_SEGMENTS = 10
MIN_SHARE_LEFT = 0.5
"""The share of the rows outside validation that must remain for training."""


def window_extents(source: Source) -> Index | None:
    """(n, 3): the extents of rows that are windows, several of one recording; else None."""
    extents = source.extents
    if extents is None or not (np.diff(extents[:, 0]) == 0).any():
        return None
    return extents


def hold_out_segments(
    extents: Index, weight: Array, wanted: float, seed: int
) -> tuple[Array, Array]:
    """(n,) bool each: validation rows of about the `wanted` weight, and rows for training.

    Segments are chosen from the seed: up to ten, or fewer if that many would exclude more rows,
    which share samples with them, than they hold. If too few rows remain, one segment at an end of
    the longest recording is tried, and then nothing is held out.
    """
    nothing = np.zeros(len(extents), bool)
    size = wanted / weight.sum() * len(extents)
    segments = int(np.clip(size / max(2 * _max_following(extents), 1), 1, MAX_SEGMENTS))
    blocks = _blocks(extents, max(size / segments, 1.0))
    order = np.random.default_rng(seed).permutation(len(blocks))
    chosen = _first_blocks(wanted, [blocks[i] for i in order], weight)
    longest = np.bincount(extents[:, 0]).argmax()
    rows = np.flatnonzero(extents[:, 0] == longest)
    count = max(round(size), 1)
    for candidate in (chosen, rows[-count:], rows[:count]):
        validation = nothing.copy()
        validation[candidate] = True
        free = ~shares_samples(extents, extents[validation])
        if weight[free].sum() >= MIN_SHARE_LEFT * (weight.sum() - wanted):
            return validation, free
    return nothing, ~nothing


def shares_samples(extents: Index, others: Index) -> Array:
    """(n,) bool: whether a row has a sample in common with any of the others."""
    last = max(int(extents[:, 2].max()), int(others[:, 2].max(initial=0)))
    starts, stops = (extents[:, :1] * last + extents[:, 1:]).T
    other_starts, other_stops = np.sort(others[:, :1] * last + others[:, 1:], axis=0).T
    # The first of the others that ends after the beginning of a row.
    first = np.searchsorted(other_stops, starts, side="right")
    begins = np.append(other_starts, np.iinfo(np.intp).max)[first]
    return np.asarray(begins < stops)


def max_overlap_count(extents: Index) -> int:
    """The largest number of rows that share samples with one row, including itself."""
    last = int(extents[:, 2].max())
    starts, stops = np.sort(extents[:, :1] * last + extents[:, 1:], axis=0).T
    begun = np.searchsorted(starts, extents[:, 0] * last + extents[:, 2], side="left")
    ended = np.searchsorted(stops, extents[:, 0] * last + extents[:, 1], side="right")
    return int((begun - ended).max())


def count_non_overlapping(extents: Index) -> int:
    """The number of different samples, in units of the longest row."""
    last = int(extents[:, 2].max())
    flat = np.sort(extents[:, :1] * last + extents[:, 1:], axis=0)
    reached = np.concatenate([[-1], np.maximum.accumulate(flat[:-1, 1])])
    new = flat[:, 1] - np.maximum(flat[:, 0], reached)
    return max(int(np.maximum(new, 0).sum()) // int((extents[:, 2] - extents[:, 1]).max()), 1)


def _max_following(extents: Index) -> int:
    """The largest number of later rows that share samples with one row."""
    last = int(extents[:, 2].max())
    starts, stops = (extents[:, :1] * last + extents[:, 1:]).T
    count = np.arange(1, len(extents) + 1)
    following = np.searchsorted(starts, stops, side="left") - count
    same_recording = np.searchsorted(extents[:, 0], extents[:, 0], side="right") - count
    return int(np.minimum(following, same_recording).max())


def _blocks(extents: Index, size: float) -> list[Index]:
    """Positions in blocks of about `size`, none of which spans two recordings."""
    recordings = np.split(np.arange(len(extents)), np.flatnonzero(np.diff(extents[:, 0])) + 1)
    return [
        block
        for rows in recordings
        for block in np.array_split(rows, max(round(len(rows) / size), 1))
    ]


def _first_blocks(wanted: float, blocks: list[Index], weight: Array) -> Index:
    """The rows of the first blocks that together weigh at most 5 % more than wanted."""
    taken, total = [blocks[0]], float(weight[blocks[0]].sum())
    for block in blocks[1:]:
        added = float(weight[block].sum())
        if total + added <= wanted * 1.05:
            taken.append(block)
            total += added
    return np.sort(np.concatenate(taken))
