"""Row numbers that take no memory: all rows of a source, or all but a few."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike

from isthmus.types import Array, Index, RowNumbers

NO_ROWS: Index = np.arange(0)


class AllRowsExcept:
    """The numbers 0, 1, ..., n - 1 in order, without a few that are left out.

    It replaces an array of row numbers: it has a length, and a slice or an array of positions
    gives the numbers there. Only the numbers that are left out are stored.
    """

    def __init__(self, n: int, left_out: Index = NO_ROWS) -> None:
        self.n = n
        self.left_out = np.sort(left_out)
        # How many of the remaining numbers come before each one that is left out.
        self._before = self.left_out - np.arange(len(self.left_out))

    def __len__(self) -> int:
        """How many numbers there are."""
        return self.n - len(self.left_out)

    def __getitem__(self, index: Any) -> Any:
        """The numbers at these positions: an int, a slice, or an array of positions."""
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
            if not len(self.left_out):
                return index
        positions = np.asarray(index, np.intp)
        lowest = positions.min(initial=0)
        if positions.size and not -len(self) <= lowest <= positions.max() < len(self):
            raise IndexError(f"positions beyond the {len(self)} rows there are")
        if lowest < 0:
            positions = np.where(positions < 0, positions + len(self), positions)
        if not len(self.left_out):
            return positions[()]  # a single position gives a number, not an array
        return positions + np.searchsorted(self._before, positions, side="right")

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        """All numbers as an array."""
        del copy
        return np.asarray(self[:], dtype)

    def positions(self, numbers: Index) -> Index:
        """For each of these row numbers, how many of the remaining numbers are smaller."""
        return np.asarray(numbers - np.searchsorted(self.left_out, numbers, side="left"))


class RowBlocks(Sequence[Index]):
    """Row numbers cut into arrays of at most `size`, each computed when it is needed."""

    def __init__(self, rows: RowNumbers, size: int) -> None:
        self.rows, self.size = rows, size

    def __len__(self) -> int:
        """How many blocks there are."""
        return (len(self.rows) + self.size - 1) // self.size

    @overload
    def __getitem__(self, index: int) -> Index: ...

    @overload
    def __getitem__(self, index: slice) -> list[Index]: ...

    def __getitem__(self, index: int | slice) -> Index | list[Index]:
        """One block, or a list of blocks for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        block: Index = self.rows[number * self.size : (number + 1) * self.size]
        return block

    def __iter__(self) -> Iterator[Index]:
        """Each block in order."""
        return (self[number] for number in range(len(self)))
