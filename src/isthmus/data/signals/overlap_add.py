"""Where the windows of a recording begin, and how they are joined again: weighted overlap-add."""

# Shape letters: n rows, L samples in a row, T samples in a recording, C channels.

from collections.abc import Sequence

import numpy as np

from isthmus.types import Array, Index


def window_starts(samples: int, length: int, step: int) -> Index:
    """Where windows of a recording begin: every `step` samples, and one more that ends at its end.

    So every sample is in a window, and every window is full of samples.
    """
    starts = np.arange(0, samples - length + 1, step)
    full = starts[-1] == samples - length
    return starts if full else np.append(starts, samples - length)


def extents(lengths: Sequence[int], length: int, step: int | None) -> Index:
    """(n, 3): recording, first sample and end of each row cut from recordings of these lengths.

    Rows have `length` samples, but where `step` is None each is a recording, perhaps a shorter one.
    """
    found = []
    for recording, samples in enumerate(lengths):
        starts = np.zeros(1, np.intp) if step is None else window_starts(samples, length, step)
        ends = np.minimum(starts + length, samples)
        found.append(np.stack([np.full(len(starts), recording), starts, ends], axis=1))
    return np.concatenate(found).astype(np.intp)


def taper(length: int) -> Array:
    """(L,): how much each sample of a window counts where windows overlap: Hann's, never 0."""
    return np.asarray(np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2)


def join(rows: Array, where: Index) -> list[Array]:
    """The recordings (T, C) that rows (n, L) or (n, L, C) make; `where` (n, 3) are their extents.

    A sample is the mean of what its windows say, weighted by `taper`: the windows of a recording
    give that recording.
    """
    rows = rows.reshape(*rows.shape[:2], -1)
    weights = taper(rows.shape[1])[:, None]
    made = []
    for recording in range(int(where[-1, 0]) + 1):
        mine = np.flatnonzero(where[:, 0] == recording)
        total = np.zeros((int(where[mine, 2].max()), rows.shape[2]))
        weight = np.zeros((len(total), 1))
        for row in mine:
            _, start, stop = where[row]
            kept = weights[: stop - start]
            total[start:stop] += kept * rows[row, : stop - start]
            weight[start:stop] += kept
        made.append(total / weight)
    return made
