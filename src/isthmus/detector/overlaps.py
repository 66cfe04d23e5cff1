"""Training windows and which of them share samples: one anomalous sample is in all of those."""

from typing import Self

import numpy as np

from isthmus.data.source import Source
from isthmus.data.splitting.holdout import hash_values, read_blocks
from isthmus.data.splitting.segments import max_overlap_count, window_extents
from isthmus.types import Array, Index

NO_RECORDING = -1
"""The recording number of a window that is not a training window."""


class TrainingWindows:
    """The windows that a detector was fitted on, recognized by a hash of their values."""

    def __init__(self, hashes: Array, extents: Index) -> None:
        order = np.argsort(hashes, kind="stable")
        self.hashes, self.extents = hashes[order], extents[order]
        self.max_overlap_count = max_overlap_count(extents)
        """The largest number of windows that share samples with one window, itself included."""

    @classmethod
    def of(cls, source: Source) -> Self | None:
        """The windows of a source; None if its rows are not windows of recordings."""
        extents = window_extents(source)
        return None if extents is None else cls(_hashes(source), extents)

    def find(self, source: Source) -> Index:
        """(n, 3): the extents of the rows of a source; -1 for rows that are not training windows.

        An extent is (recording, first sample, sample after the last).
        """
        hashes = _hashes(source)
        index = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        extents = self.extents[index].copy()
        extents[self.hashes[index] != hashes] = NO_RECORDING
        return extents


def overlaps(extents: Index, others: Index) -> Array:
    """(B, k) bool: whether windows with `extents` (B, 3) share samples with `others` (B, k, 3)."""
    recording, start, stop = np.moveaxis(extents[:, None], 2, 0)
    same = others[..., 0] == recording
    return np.asarray(same & (others[..., 1] < stop) & (others[..., 2] > start))


def _hashes(source: Source) -> Array:
    """(n,): hashes of the values as float64, so that the dtype of a source does not matter."""
    parts = [hash_values(values.astype(np.float64), 0) for _, values in read_blocks(source)]
    return np.concatenate([np.empty(0, np.uint64), *parts])
