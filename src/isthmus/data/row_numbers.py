"""Row numbers that take no memory: all rows of a source, or all but a few."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from isthmus.types import Array, Index, Numbers

NONE: Index = np.arange(0)


class AllBut:
    """The numbers 0, 1, ..., n - 1 in order, without a few that are left out.

    Stands for an array of row numbers: it has a length, and a slice or an array of positions takes
    the numbers there. Nothing is kept but what is left out.
    """

    def __init__(self, n: int, left_out: Index = NONE) -> None:
        self.n = n
        self.left_out = np.sort(left_out)
        # So many numbers that are kept come before each that is left out.
        self._before = self.left_out - np.arange(len(self.left_out))

    def __len__(self) -> int:
        """How many numbers there are."""
        return self.n - len(self.left_out)

    def __getitem__(self, at: Any) -> Any:
        """The numbers at these positions: an int, a slice, or an array of them."""
        if isinstance(at, slice):
            at = np.arange(*at.indices(len(self)))
            if not len(self.left_out):
                return at
        positions = np.asarray(at, np.intp)
        lowest = positions.min(initial=0)
        if positions.size and not -len(self) <= lowest <= positions.max() < len(self):
            raise IndexError(f"positions beyond the {len(self)} rows there are")
        if lowest < 0:
            positions = np.where(positions < 0, positions + len(self), positions)
        if not len(self.left_out):
            return positions[()]  # of a single one a number, not an array
        return positions + np.searchsorted(self._before, positions, side="right")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """All of them, in memory."""
        del copy
        return np.asarray(self[:], dtype)

    def positions(self, numbers: Index) -> Index:
        """How many of the numbers lie below each of these."""
        return np.asarray(numbers - np.searchsorted(self.left_out, numbers, side="left"))


class Pieces(Sequence[Index]):
    """Row numbers cut into arrays of at most `size`, each of which is made as it is asked for."""

    def __init__(self, rows: Numbers, size: int) -> None:
        self.rows, self.size = rows, size

    def __len__(self) -> int:
        """How many pieces there are."""
        return (len(self.rows) + self.size - 1) // self.size

    def __getitem__(self, at: Any) -> Any:
        """The piece, or a list of pieces for a slice."""
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        return self.rows[at * self.size : (at + 1) * self.size]

    def __iter__(self) -> Iterator[Index]:
        """Each piece in order."""
        return (self[at] for at in range(len(self)))
