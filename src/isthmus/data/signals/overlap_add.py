"""Where the windows of a recording begin, and how they are joined again by weighted overlap-add."""

# Shape letters: n rows, L samples in a row, T samples in a recording, C channels.

from collections.abc import Sequence

import numpy as np

from isthmus.types import Array, Index


def window_starts(samples: int, length: int, hop: int) -> Index:
    """The first sample of each window: one every `hop` samples, and a last one at the end.

    So every sample is in a window, and every window is full of samples.
    """
    starts = np.arange(0, samples - length + 1, hop)
    full = starts[-1] == samples - length
    return starts if full else np.append(starts, samples - length)


def extents(lengths: Sequence[int], length: int, hop: int | None) -> Index:
    """(n, 3): recording, first sample and end of each row cut from recordings of these lengths.

    Rows have `length` samples. Without a `hop` each row is a whole recording, which may be shorter.
    """
    parts = []
    for recording, samples in enumerate(lengths):
        starts = np.zeros(1, np.intp) if hop is None else window_starts(samples, length, hop)
        ends = np.minimum(starts + length, samples)
        parts.append(np.stack([np.full(len(starts), recording), starts, ends], axis=1))
    return np.concatenate(parts).astype(np.intp)


def taper(length: int) -> Array:
    """(L,): the weight of each sample of overlapping windows, a Hann window that is never 0."""
    return np.asarray(np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2)


def overlap_add(rows: Array, extents: Index) -> list[Array]:
    """The recordings (T, C) from rows (n, L) or (n, L, C) with these extents (n, 3).

    A sample is the mean over its windows, weighted by `taper`. The windows of a recording give that
    recording.
    """
    rows = rows.reshape(*rows.shape[:2], -1)
    weights = taper(rows.shape[1])[:, None]
    recordings = []
    for recording in range(int(extents[-1, 0]) + 1):
        numbers = np.flatnonzero(extents[:, 0] == recording)
        total = np.zeros((int(extents[numbers, 2].max()), rows.shape[2]))
        weight = np.zeros((len(total), 1))
        for row in numbers:
            _, start, stop = extents[row]
            row_weights = weights[: stop - start]
            total[start:stop] += row_weights * rows[row, : stop - start]
            weight[start:stop] += row_weights
        recordings.append(total / weight)
    return recordings
