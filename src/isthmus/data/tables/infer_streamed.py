"""What the columns of a table on disk are, told in one pass, by the rules for tables in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import narwhals as nw
import numpy as np

from isthmus.data.arrays import fault
from isthmus.data.columns import IDENTIFIER, LEVELLED, Column, in_order, listed, unknown
from isthmus.data.tables.datetimes import is_moment
from isthmus.data.tables.frames import SHOWN_LEVELS
from isthmus.data.tables.infer import FEW, Recognised, names_rows, of_levels, of_text, recognise
from isthmus.data.tables.role_checks import FITTING, check_values
from isthmus.data.tables.to_numbers import (
    are_whole,
    arrow_of,
    is_text,
    plain_numbers,
    refuse_type,
    written,
)
from isthmus.data.tables.unparsable import Strays, TextLevels, strays_of
from isthmus.types import Array, Index

Series = nw.Series[Any]

MOST_LEVELS = 100_000
"""So many different values of a column are kept; one that has more is no category."""

BATCH_ROWS, BATCH_BYTES = 1 << 16, 1 << 25


class Table(Protocol):
    """What is looked at: see `tables.Records`."""

    origin: str
    bounds: Index
    row_bytes: float

    def empty(self) -> Any:
        """A pyarrow Table without rows."""

    def batches(self, group: int, names: Sequence[str], rows: int) -> Any:
        """The pyarrow Tables of a group."""


@dataclass
class Findings:
    """What one pass over a table has told."""

    recognised: dict[str, Recognised]
    has_missing: dict[str, bool] = field(default_factory=dict)
    """Whether a column of whole numbers or truths has missing values."""

    levels: dict[str, TextLevels] = field(default_factory=dict)
    """The values of columns of text, numbers and dictionaries that were looked for."""

    def strange(self, columns: Mapping[str, Column], origin: str) -> list[str]:
        """One line for each column with values that are none of the levels it has here."""
        lines = []
        for name, column in columns.items():
            if name not in self.levels:
                continue
            found, known = self.levels[name], set(column.levels)
            if are_whole(column):  # numbers may be among them too
                known |= {x for x in found.levels if not isinstance(x, str) and written(x) in known}
            at = [i for i, level in enumerate(found.levels) if level not in known]
            if at:
                count = int(found.counts[at].sum())
                values = [found.levels[i] for i in at[:SHOWN_LEVELS]]
                lines.append(f"{origin}: column {name!r}: {unknown(count)}: {listed(values)}")
        return lines


def survey(table: Table, names: Sequence[str], roles: Mapping[str, str]) -> Findings:
    """Recognise the columns `names`, reading only those whose type does not tell what they are.

    Raises DataError (SourceError for a file) as `recognise` does, and for a column of text with
    more different values than can be kept which are not names of rows.
    """
    frame = nw.from_native(table.empty(), eager_only=True)
    looks = {n: _look(frame.get_column(n), roles.get(n), table.origin) for n in names}
    wanted = [name for name, look in looks.items() if look.reads]
    if wanted:
        row, rows = 0, max(1, min(BATCH_ROWS, int(BATCH_BYTES // table.row_bytes)))
        for group in range(len(table.bounds) - 1):
            for batch in table.batches(group, wanted, rows):
                part = nw.from_native(batch, eager_only=True)
                for name in wanted:
                    looks[name].see(part.get_column(name), row)
                row += batch.num_rows
    found = Findings({name: look.conclude() for name, look in looks.items()})
    found.has_missing = {name: look.has_missing for name, look in looks.items()}
    found.levels = {n: look.seen.found() for n, look in looks.items() if look.seen is not None}
    return found


class _Look:
    """One column under survey."""

    reads = True
    """Whether its values must be seen."""

    has_missing = False
    seen: "_Levels | None" = None

    def __init__(self, series: Series, declared: str | None, origin: str) -> None:
        self.series, self.declared, self.origin = series, declared, origin
        self.name = str(series.name)

    def see(self, series: Series, row: int) -> None:
        """Learn from some values, the first of which is that of row number `row`."""

    def conclude(self) -> Recognised:
        """What the column is."""
        raise NotImplementedError


class _Told(_Look):
    """A column whose type or declaration says all."""

    reads = False

    def conclude(self) -> Recognised:
        return recognise(self.series, self.declared, self.origin)


class _Unknown(_Look):
    """A column of a type that is no column's; its first values are shown."""

    def see(self, series: Series, row: int) -> None:
        del row
        refuse_type(series, self.origin)

    def conclude(self) -> Recognised:
        refuse_type(self.series, self.origin)


class _Numbers(_Look):
    """Whole numbers and truths, and any numbers that something was declared of."""

    def __init__(self, series: Series, declared: str | None, origin: str) -> None:
        super().__init__(series, declared, origin)
        self.rising, self.rows, self.last = series.dtype.is_integer() and declared is None, 0, 0
        if declared in LEVELLED:
            self.seen = _Levels(self.name, origin)

    def see(self, series: Series, row: int) -> None:
        numbers = plain_numbers(series)
        assert numbers is not None
        self.has_missing = self.has_missing or bool(series.null_count())
        if self.declared in FITTING:
            check_values(self.name, numbers, self.declared, self.origin, row)
        if self.seen is not None:
            self.seen.add(numbers[~np.isnan(numbers)], row)
        self.rising = self.rising and not self.has_missing and self._rises(numbers)
        self.rows += len(numbers)

    def _rises(self, numbers: Array) -> bool:
        if not len(numbers):
            return True
        goes_on = not self.rows or int(numbers[0]) == self.last + 1
        self.last = int(numbers[-1])
        span = self.last - int(numbers[0]) == len(numbers) - 1
        return goes_on and span and bool((np.diff(numbers.astype(np.int64)) == 1).all())

    def conclude(self) -> Recognised:
        if self.seen is not None:
            return of_levels(np.sort(np.asarray(self.seen.values)), str(self.declared))
        if self.rising and self.rows > FEW:
            return Recognised(None, "counts the rows")
        return recognise(self.series, self.declared, self.origin)


class _Text(_Look):
    """Text, which may be categories or the names of rows."""

    def __init__(self, series: Series, declared: str | None, origin: str) -> None:
        super().__init__(series, declared, origin)
        self.seen = _Levels(self.name, origin)
        self.given_up = ""
        self.strays: list[Strays] = []

    def see(self, series: Series, row: int) -> None:
        array = arrow_of(series)
        assert self.seen is not None
        if self.given_up:
            for one in self.strays:
                one.see(array, row)
            return
        self.seen.add_arrow(array, row)
        levels, known = len(self.seen.values), int(self.seen.counts.sum())
        if levels <= MOST_LEVELS:
            return
        if self.declared is not None or not names_rows(levels, known):
            self.seen.refuse()
        self.given_up = f"identifies rows (more than {MOST_LEVELS} different values)"
        self.strays = strays_of(self.seen.found())
        self.seen = _Levels(self.name, self.origin)

    def conclude(self) -> Recognised:
        assert self.seen is not None
        for one in self.strays:
            one.check(self.name, self.origin)
        if self.given_up:
            return Recognised(None, self.given_up)
        found = of_text(self.name, self.seen.found(), self.declared, self.origin)
        return _as_declared(found, self.declared)


class _Dictionary(_Look):
    """Values that come with a list of those there are."""

    def __init__(self, series: Series, declared: str | None, origin: str) -> None:
        super().__init__(series, declared, origin)
        self.seen = _Levels(self.name, origin)
        self.listed: dict[Any, None] = {}

    def see(self, series: Series, row: int) -> None:
        assert self.seen is not None
        array = arrow_of(series)
        self.listed |= dict.fromkeys(array.dictionary.to_pylist())
        if len(self.listed) > MOST_LEVELS:
            self.seen.refuse()
        self.seen.add_arrow(array.cast(array.type.value_type), row)

    def conclude(self) -> Recognised:
        ordered = bool(arrow_of(self.series).type.ordered)
        levels = tuple(self.listed) if ordered else in_order(set(self.listed))
        role = "ordinal" if ordered else "categorical"
        column = Column(role=role, levels=levels)  # type: ignore[arg-type]
        return _as_declared(Recognised(column), self.declared)


class _Levels:
    """The different values of a column, how often each came, and where it came first."""

    def __init__(self, name: str, origin: str) -> None:
        self.name, self.origin = name, origin
        self.values: list[Any] = []
        self.counts: Array = np.zeros(0, np.int64)
        self._first: Array = np.zeros(0, np.int64)
        self._place: dict[Any, int] = {}

    def add_arrow(self, array: Any, row: int) -> None:
        """Learn from an Arrow array of plain values."""
        known = array.drop_null()
        coded = known.dictionary_encode()
        places = np.asarray(coded.indices.to_numpy(zero_copy_only=False), np.intp)
        rows = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
        self._join(coded.dictionary.to_pylist(), places, rows + row)

    def add(self, numbers: Array, row: int) -> None:
        """Learn from numbers without gaps."""
        levels, places = np.unique(numbers, return_inverse=True)
        self._join(levels.tolist(), places, row + np.arange(len(numbers)))
        if len(self.values) > MOST_LEVELS:
            self.refuse()

    def _join(self, levels: list[Any], places: Index, rows: Index) -> None:
        fresh = [level for level in levels if level not in self._place]
        self._place |= {level: len(self.values) + at for at, level in enumerate(fresh)}
        self.values += fresh
        self.counts = np.concatenate([self.counts, np.zeros(len(fresh), np.int64)])
        self._first = np.concatenate([self._first, np.full(len(fresh), np.iinfo(np.int64).max)])
        if levels:
            at = np.asarray([self._place[level] for level in levels])
            self.counts[at] += np.bincount(places, minlength=len(levels))
            first = np.full(len(levels), np.iinfo(np.int64).max)
            np.minimum.at(first, places, rows)
            self._first[at] = np.minimum(self._first[at], first)

    def found(self) -> TextLevels:
        """As the rules for text take it."""

        def first(wanted: list[str]) -> tuple[int, str]:
            return min((int(self._first[self._place[level]]), level) for level in wanted)

        return TextLevels(self.values, self.counts, first)

    def refuse(self) -> None:
        """Raise for a column that has too many levels."""
        raise fault(
            self.origin,
            f"column {self.name!r} has more than {MOST_LEVELS} different values, too many for the "
            f"levels of a category; leave it out with drop=[{self.name!r}] (command line: --drop "
            f"{self.name})",
        )


def _as_declared(found: Recognised, declared: str | None) -> Recognised:
    if found.column is None or declared not in LEVELLED:
        return found
    levels = found.column.levels
    return Recognised(Column(role=declared, levels=levels))  # type: ignore[arg-type]


def _look(series: Series, declared: str | None, origin: str) -> _Look:
    import pyarrow as pa

    if declared == IDENTIFIER:
        return _Told(series, declared, origin)
    if plain_numbers(series) is not None:
        told = series.dtype.is_float() and declared not in (*FITTING, *LEVELLED)
        return (_Told if told else _Numbers)(series, declared, origin)
    array = arrow_of(series)
    if array is None:
        return _Unknown(series, declared, origin)
    if is_moment(array.type) or pa.types.is_null(array.type):
        return _Told(series, declared, origin)
    if pa.types.is_dictionary(array.type):
        return _Dictionary(series, declared, origin)
    return (_Text if is_text(array.type) else _Unknown)(series, declared, origin)
