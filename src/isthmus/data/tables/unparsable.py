"""Text that is numbers or dates but for a few values, which are slips or words for gaps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from isthmus.data.arrays import fault
from isthmus.data.tables.datetimes import reads_as_date, reads_as_zoned
from isthmus.data.tables.to_numbers import reads_as_number
from isthmus.types import Array

FEW_STRAYS = 0.5
"""Where a smaller share of the values are no numbers (or no dates), those are at fault."""

READS: tuple[tuple[Callable[[str], bool], str], ...] = (
    (reads_as_number, "a number"),
    (reads_as_date, "a date"),
    (reads_as_zoned, "a moment in a time zone"),
)
"""What text may be but for a few values."""


class TextLevels(NamedTuple):
    """The different values of a column of text."""

    levels: list[str]
    counts: Array
    """How often each came."""

    first: Callable[[list[str]], tuple[int, str]]
    """The first row that holds one of some levels, and which of them."""


def strays_of(found: TextLevels) -> list["Strays"]:
    """What most of some values are, and the few that are not."""
    made = []
    for reads, what in READS:
        stray = np.asarray([not reads(level) for level in found.levels], bool)
        if stray.all():
            continue
        known, strays = int(found.counts.sum()), int(found.counts[stray].sum())
        if strays < FEW_STRAYS * known:
            first = (
                found.first([found.levels[at] for at in np.flatnonzero(stray)]) if strays else None
            )
            made.append(Strays(reads, what, known, strays, first))
    return made


class Strays:
    """The values of a column that are not what most of them are: how many, and the first."""

    def __init__(
        self,
        reads: Callable[[str], bool],
        what: str,
        known: int,
        strays: int,
        first: tuple[int, str] | None,
    ) -> None:
        self.reads, self.what = reads, what
        self.known, self.strays, self.first = known, strays, first

    def see(self, array: Any, row: int) -> None:
        """Learn from some more values, an Arrow array of text from row number `row` on."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self.known += len(array) - array.null_count
        odd = [value for value in pc.unique(array.drop_null()).to_pylist() if not self.reads(value)]
        if odd:
            at = pc.is_in(array, value_set=pa.array(odd, array.type))
            self.strays += int(pc.sum(at).as_py())
            place = int(pc.index(at, True).as_py())
            self.first = self.first or (row + place, array[place].as_py())

    def check(self, name: str, origin: str) -> None:
        """Raise DataError (SourceError for a file) where there are some, and few."""
        if self.first is None or self.strays >= FEW_STRAYS * self.known:
            return
        (row, value), share = self.first, self.strays / self.known
        zoned = self.what == "a date" and reads_as_zoned(value)
        raise fault(
            origin,
            f"column {name!r}: {value!r} at row {row}, counting from 0, is not {self.what}"
            f"{' without a time zone' if zoned else ''}, as {1 - share:.1%} of its values are; "
            f"correct it, make it empty if it is missing, or declare the column categorical "
            f"(command line: --role {name}=categorical)",
        )
