"""The held-out rows that the threshold is computed from: a representative part of all rows."""

import numpy as np

from isthmus.data.source import Source
from isthmus.data.splitting.holdout import Split, hash_rows, validation_split
from isthmus.data.splitting.segments import window_extents
from isthmus.types import Array, Index


def hold_out(source: Source, fraction: float, seed: int) -> Split:
    """Hold out `fraction` of the rows of a source, whether they are frequent or not.

    Distinct rows and small groups of equal rows are held out as in a fit: never a copy of a
    training row. Groups too large for that contribute the same fraction of each group, because new
    rows will be copies of them too. Without them the held-out rows would all be infrequent ones,
    which are not representative.
    """
    rows = np.arange(len(source))
    if window_extents(source) is not None:
        return validation_split(source, rows, np.ones(len(rows)), fraction, seed)
    _, group, size = np.unique(
        hash_rows(source, rows, seed), return_inverse=True, return_counts=True
    )
    frequent = _frequent_groups(size, fraction)
    rest = rows[~frequent[group]]
    parts = [_first_part(rows[group == index], fraction) for index in np.flatnonzero(frequent)]
    if len(rest):
        parts.append(validation_split(source, rest, np.ones(len(rest)), fraction, seed).validation)
    held_out = np.sort(np.concatenate(parts)) if parts else rows[:0]
    return Split(np.setdiff1d(rows, held_out, assume_unique=True), held_out)


def _frequent_groups(size: Array, fraction: float) -> Array:
    """(G,) bool: which groups of `size` (G,) equal rows are too large to be held out whole."""
    frequent = np.zeros(len(size), bool)
    while True:
        # A group must not fill more than half of the held-out part of the remaining rows.
        too_large = ~frequent & (size > max(fraction * size[~frequent].sum() / 2, 1))
        if not too_large.any():
            return frequent
        frequent |= too_large


def _first_part(rows: Index, fraction: float) -> Index:
    """The first `fraction` of some rows, which are all equal."""
    return rows[: round(fraction * len(rows))]
