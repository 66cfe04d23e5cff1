"""Finds the few values of a text column that are not numbers or dates although most are."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from isthmus.data.arrays import data_error
from isthmus.data.tables.datetimes import parses_as_date, parses_as_zoned_datetime
from isthmus.data.tables.to_numbers import parses_as_number
from isthmus.errors import declare_role
from isthmus.types import Array

if TYPE_CHECKING:
    import pyarrow as pa

MAX_UNPARSABLE_SHARE = 0.5
"""A smaller share of values that are not numbers (or not dates) is an error."""

PARSERS: tuple[tuple[Callable[[str], bool], str], ...] = (
    (parses_as_number, "a number"),
    (parses_as_date, "a date"),
    (parses_as_zoned_datetime, "a timestamp with a time zone"),
)
"""What text may be, except for a few values."""


class ValueCounts(NamedTuple):
    """The different values of a column."""

    values: list[str]

    counts: Array
    """How often each occurs."""

    first: Callable[[list[str]], tuple[int, str]]
    """Returns the first row that holds one of some values, and which of them."""


def find_unparsable(counts: ValueCounts) -> list["UnparsableValues"]:
    """The unparsable values for each parser that most values of a column satisfy."""
    results = []
    n_values = int(counts.counts.sum())
    for parses, kind in PARSERS:
        fails = np.asarray([not parses(value) for value in counts.values], bool)
        n_unparsable = int(counts.counts[fails].sum())
        if fails.all() or n_unparsable >= MAX_UNPARSABLE_SHARE * n_values:
            continue
        wrong = [counts.values[index] for index in np.flatnonzero(fails)]
        first = counts.first(wrong) if wrong else None
        results.append(UnparsableValues(parses, kind, n_values, n_unparsable, first))
    return results


class UnparsableValues:
    """How many values of a column one parser rejects, and the first of them."""

    def __init__(
        self,
        parses: Callable[[str], bool],
        kind: str,
        n_values: int,
        n_unparsable: int,
        first: tuple[int, str] | None,
    ) -> None:
        self.parses, self.kind = parses, kind
        self.n_values, self.n_unparsable, self.first = n_values, n_unparsable, first

    def update(self, array: "pa.Array", row: int) -> None:
        """Count more values: an Arrow array of text whose first row is number `row`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self.n_values += len(array) - array.null_count
        values = pc.unique(array.drop_null()).to_pylist()
        wrong = [value for value in values if not self.parses(value)]
        if wrong:
            is_wrong = pc.is_in(array, value_set=pa.array(wrong, array.type))
            self.n_unparsable += int(pc.sum(is_wrong).as_py())
            index = int(pc.index(is_wrong, True).as_py())
            self.first = self.first or (row + index, array[index].as_py())

    def check(self, name: str, origin: str, *, has_role: bool = False) -> None:
        """Raise DataError (SourceError for a file) if there are unparsable values, but few."""
        if self.first is None or self.n_unparsable >= MAX_UNPARSABLE_SHARE * self.n_values:
            return
        (row, value), share = self.first, self.n_unparsable / self.n_values
        remedy = "correct it, or make it empty if it is missing"
        if not has_role:
            role = declare_role(name, "categorical")
            remedy = f"{remedy}, or declare the column categorical with {role}"
        zoned = self.kind == "a date" and parses_as_zoned_datetime(value)
        raise data_error(
            origin,
            f"column {name!r}: {value!r} at row {row}, counting from 0, is not {self.kind}"
            f"{' without a time zone' if zoned else ''}, as {1 - share:.1%} of its values are; "
            f"{remedy}",
        )
