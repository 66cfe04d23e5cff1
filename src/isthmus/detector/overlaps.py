"""Windows that share samples are no witnesses for one another: an odd moment is in all of them."""

from typing import Self

import numpy as np

from isthmus.data import extents_of, most_shared, read_blocks
from isthmus.data.splitting.holdout import hashed
from isthmus.types import Array, Index, Source

NOWHERE = -1
"""The recording of a window that was not learned."""


class LearnedWindows:
    """The windows that a detector learned, known again by their values wherever they come from."""

    def __init__(self, hashes: Array, extents: Index) -> None:
        order = np.argsort(hashes, kind="stable")
        self.hashes, self.extents = hashes[order], extents[order]
        self.most_shared = most_shared(extents)
        """With how many windows one shares samples at most, itself among them."""

    @classmethod
    def of(cls, source: Source) -> Self | None:
        """Those of a source; None where its rows are no windows."""
        where = extents_of(source)
        return None if where is None else cls(_hashes(source), where)

    def find(self, source: Source) -> Index:
        """(n, 3): the extents of each row of a source; recording -1 where it was not learned."""
        wanted = _hashes(source)
        at = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
        found = self.extents[at].copy()
        found[self.hashes[at] != wanted] = NOWHERE
        return found


def share(one: Index, others: Index) -> Array:
    """(B, k) bool: whether windows (B, 3) share samples with others (B, k, 3)."""
    recording, start, stop = np.moveaxis(one[:, None], 2, 0)
    same = others[..., 0] == recording
    return np.asarray(same & (others[..., 1] < stop) & (others[..., 2] > start))


def _hashes(source: Source) -> Array:
    """(n,): of the values, whichever type they come in."""
    parts = [hashed(values.astype(np.float64), 0) for _, values in read_blocks(source)]
    return np.concatenate([np.empty(0, np.uint64), *parts])
