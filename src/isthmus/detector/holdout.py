"""Which rows the threshold is drawn by: a part of the rows that is like the whole."""

import numpy as np

from isthmus.data import Split, hash_rows, validation_split
from isthmus.data.splitting.segments import extents_of
from isthmus.types import Array, Index, Source


def hold_out(source: Source, fraction: float, seed: int) -> Split:
    """Hold out `fraction` of the rows of a source, of repeated and of rare ones alike.

    Rows that are all different, and copies of which there are few, are held out as in a fit: a copy
    of a row that is learned from is not. Rows that come so often that none could ever be held out
    so are the usual ones, and what is left would be the rare ones alone, from which no threshold
    follows: of each of them the same part is held out, as new rows will be copies of them too.
    """
    rows = np.arange(len(source))
    if extents_of(source) is not None:
        return validation_split(source, rows, np.ones(len(rows)), fraction, seed)
    _, group, size = np.unique(
        hash_rows(source, rows, seed), return_inverse=True, return_counts=True
    )
    usual = _usual(size, fraction)
    rare = rows[~usual[group]]
    held = [_part_of(rows[group == one], fraction) for one in np.flatnonzero(usual)]
    if len(rare):
        held.append(validation_split(source, rare, np.ones(len(rare)), fraction, seed).validation)
    held_out = np.sort(np.concatenate(held)) if held else rows[:0]
    return Split(np.setdiff1d(rows, held_out, assume_unique=True), held_out)


def _usual(size: Array, fraction: float) -> Array:
    """(G,) bool: which groups of so many equal rows are too large to be held out whole."""
    usual = np.zeros(len(size), bool)
    while True:
        # Of what is left, less is wanted; a group that would fill half of that is too large too.
        too_large = ~usual & (size > max(fraction * size[~usual].sum() / 2, 1))
        if not too_large.any():
            return usual
        usual |= too_large


def _part_of(rows: Index, fraction: float) -> Index:
    """Some of rows that are all equal."""
    return rows[: round(fraction * len(rows))]
