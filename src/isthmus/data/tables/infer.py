"""Infers the role of a table's column from its type and values, or from its declaration.

A column may be given as a whole or in several parts, so that tables in memory and on disk follow
the same rules.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import narwhals as nw
import numpy as np

from isthmus.data.arrays import data_error
from isthmus.data.columns import (
    ALL_COLUMNS,
    CATEGORY_ROLES,
    IDENTIFIER,
    Column,
    Role,
    sorted_by_type,
)
from isthmus.data.tables.datetimes import time_type_of
from isthmus.data.tables.to_numbers import (
    ROLE_CHECKS,
    Series,
    arrow_of,
    check_role,
    is_text,
    parses_as_number,
    plain_numbers,
    raise_unsupported_type,
)
from isthmus.data.tables.unparsable import UnparsableValues, ValueCounts, find_unparsable
from isthmus.errors import declare_role, drop_column, either
from isthmus.types import Array, Index

if TYPE_CHECKING:
    import pyarrow as pa

FEW = 20
"""Columns with at most so many different values, or rows, are not taken for identifiers."""

MOSTLY_DISTINCT = 0.5
"""Text with a larger share of different values identifies rows."""

LAST_ROW = np.iinfo(np.int64).max


class InferredColumn(NamedTuple):
    """The inferred description of a column, or the reason why it is left out."""

    column: Column | None
    """None for an identifier."""

    reason: str = ""


def infer_column(series: Series, declared: str | None, origin: str) -> InferredColumn:
    """The role of one column in memory, with its categories if it has any.

    Types decide for numbers, booleans, dates and dictionaries. Text is categorical. Text of which
    more than half of the values are different identifies rows and is left out; so do whole numbers
    that count the rows. `declared` is a role that the user gave.

    Raises DataError (SourceError for a file) for a type that is not supported.
    """
    inference = start_inference(series, declared, origin)
    if inference.needs_values:
        inference.update(series, 0)
    return inference.result()


def start_inference(
    series: Series, declared: str | None, origin: str, max_values: int | None = None
) -> "ColumnInference":
    """The inference for a column of the type of `series`, which may hold only some values.

    At most `max_values` different values are kept in memory; None: all of a column in memory.
    """
    import pyarrow as pa

    made: type[ColumnInference]
    array = None
    if declared == IDENTIFIER:
        made = _KnownByType
    elif plain_numbers(series) is not None:
        known = series.dtype.is_float() and declared not in (*ROLE_CHECKS, *CATEGORY_ROLES)
        made = _KnownByType if known else _Numbers
    else:
        array = arrow_of(series)
        if array is None:
            made = _Unsupported
        elif time_type_of(array.type) is not None or pa.types.is_null(array.type):
            made = _KnownByType
        elif pa.types.is_dictionary(array.type):
            made = _Dictionary
        else:
            made = _Text if is_text(array.type) else _Unsupported
    return made(series, array, declared, origin, max_values)


class ColumnInference:
    """The inference of one column, which sees its values part by part."""

    needs_values = True
    """Whether `update` must see the values."""

    has_missing = False
    """Whether a column of integers or booleans has missing values."""

    counts: "CategoryCounts | None" = None
    """The different values, if they are counted."""

    def __init__(
        self,
        series: Series,
        array: "pa.Array | None",
        declared: str | None,
        origin: str,
        max_values: int | None,
    ) -> None:
        self.series, self.array, self.declared, self.origin = series, array, declared, origin
        self.name, self.max_values = str(series.name), max_values

    def update(self, series: Series, row: int) -> None:
        """Add values, the first of which is in row number `row`."""

    def result(self) -> InferredColumn:
        """The inferred column."""
        raise NotImplementedError

    def arrow_of(self, series: Series) -> "pa.Array":
        """The values as an Arrow array."""
        return self.array if series is self.series else arrow_of(series)

    def with_declared_role(self, column: Column) -> InferredColumn:
        """The column of categories in the role that was declared, if any."""
        role = self.declared if self.declared in CATEGORY_ROLES else column.role
        return InferredColumn(
            Column(
                role=cast("Role", role),
                categories=column.categories,
                category_dtype=column.category_dtype,
            )
        )


class _KnownByType(ColumnInference):
    """A column that its type or declaration determines without its values."""

    needs_values = False

    def result(self) -> InferredColumn:
        if self.declared == IDENTIFIER:
            return InferredColumn(None, "was said to identify rows")
        time_type = None if self.array is None else time_type_of(self.array.type)
        if time_type is not None:
            return InferredColumn(Column(role="datetime", time_type=time_type))
        return InferredColumn(Column())


class _Unsupported(ColumnInference):
    """A column of a type that is not supported; the message shows its first values."""

    def update(self, series: Series, row: int) -> None:
        del row
        raise_unsupported_type(series, self.origin)

    def result(self) -> InferredColumn:
        raise_unsupported_type(self.series, self.origin)


class _Numbers(ColumnInference):
    """Integers, booleans, and floats with a declared role."""

    def __init__(self, series: Series, *arguments: Any) -> None:
        super().__init__(series, *arguments)
        self.counts_rows = series.dtype.is_integer() and self.declared is None
        self.n_rows, self.last = 0, 0
        if self.declared in CATEGORY_ROLES:
            self.counts = CategoryCounts(self.name, self.origin, self.max_values)

    def update(self, series: Series, row: int) -> None:
        numbers = plain_numbers(series)
        assert numbers is not None
        self.has_missing = self.has_missing or bool(series.null_count())
        if self.declared in ROLE_CHECKS:
            check_role(self.name, numbers, self.declared, self.origin, row)
        if self.counts is not None:
            self.counts.add_numbers(numbers[~np.isnan(numbers)], row)
        self.counts_rows = self.counts_rows and not self.has_missing and self._continues(numbers)
        self.n_rows += len(numbers)

    def _continues(self, numbers: Array) -> bool:
        """Whether the numbers still increase by one from row to row."""
        if not len(numbers):
            return True
        if numbers.dtype.kind not in "iu":
            return False
        follows = not self.n_rows or int(numbers[0]) == self.last + 1
        self.last = int(numbers[-1])
        rise = self.last - int(numbers[0]) == len(numbers) - 1
        return follows and rise and bool((np.diff(numbers.astype(np.int64)) == 1).all())

    def result(self) -> InferredColumn:
        if self.counts is not None:
            values = np.sort(np.asarray(self.counts.values))
            whole = values.dtype.kind == "f" and bool((values == np.rint(values)).all())
            categories = tuple((values.astype(np.int64) if whole else values).tolist())
            return InferredColumn(Column(role=cast("Role", self.declared), categories=categories))
        if self.counts_rows and self.n_rows > FEW:
            return InferredColumn(None, "counts the rows")
        if self.series.dtype == nw.Boolean or self.declared == "boolean":
            return InferredColumn(Column(role="boolean"))
        return InferredColumn(Column(role="count" if self.declared == "count" else "numeric"))


class _Text(ColumnInference):
    """Text, which holds categories or identifies rows."""

    def __init__(self, series: Series, *arguments: Any) -> None:
        super().__init__(series, *arguments)
        self.counts: CategoryCounts = CategoryCounts(self.name, self.origin, self.max_values)
        self.reason = ""
        """The reason why it identifies rows, once it has too many different values."""

        self.unparsable: list[UnparsableValues] = []

    def update(self, series: Series, row: int) -> None:
        array = self.arrow_of(series)
        if self.reason:
            for values in self.unparsable:
                values.update(array, row)
            return
        self.counts.add_arrow(array, row)
        if not self.counts.is_full:
            return
        n_values = int(self.counts.counts.sum())
        if self.declared is not None or not identifies_rows(len(self.counts.values), n_values):
            self.counts.raise_full()
        self.reason = f"identifies rows (more than {self.max_values} different values)"
        self.unparsable = find_unparsable(self.counts.value_counts())
        self.counts = CategoryCounts(self.name, self.origin, self.max_values)

    def result(self) -> InferredColumn:
        counts = self.counts.value_counts()
        if self.declared is None:
            for unparsable in self.unparsable or find_unparsable(counts):
                unparsable.check(self.name, self.origin)
        if self.reason:
            return InferredColumn(None, self.reason)
        values, n_values = counts.values, int(counts.counts.sum())
        if self.declared is None and identifies_rows(len(values), n_values):
            share = f"{len(values)} different values in {n_values}"
            return InferredColumn(None, f"identifies rows ({share})")
        are_numbers = self.declared is not None and all(map(parses_as_number, values))
        ordered = sorted(values, key=_as_number) if are_numbers else sorted_by_type(values)
        return self.with_declared_role(Column(role="categorical", categories=tuple(ordered)))


def _as_number(value: str) -> tuple[float, str]:
    return float(value), value


class _Dictionary(ColumnInference):
    """Values of a type that lists its categories, such as pandas' category."""

    def __init__(self, series: Series, *arguments: Any) -> None:
        super().__init__(series, *arguments)
        self.entries: dict[Any, None] = {}
        self.category_dtype = ""
        if self.max_values is not None:
            self.counts = CategoryCounts(self.name, self.origin, self.max_values)

    def update(self, series: Series, row: int) -> None:
        array, native = self.arrow_of(series), series.to_native()
        if self.counts is not None and self.max_values is not None:
            self.entries |= dict.fromkeys(array.dictionary.to_pylist())
            if len(self.entries) > self.max_values:
                self.counts.raise_full()
            self.counts.add_arrow(array.cast(array.type.value_type), row)
        elif series.implementation.is_pandas() and hasattr(native, "cat"):
            self.entries = dict.fromkeys(native.cat.categories.tolist())
            self.category_dtype = str(native.cat.categories.dtype)
        else:
            entries = getattr(series.dtype, "categories", None)
            self.entries = dict.fromkeys(
                array.dictionary.to_pylist() if entries is None else entries
            )

    def result(self) -> InferredColumn:
        assert self.array is not None
        if not all(isinstance(entry, (str, int, float, bool)) for entry in self.entries):
            raise_unsupported_type(self.series, self.origin)
        is_ordered = bool(self.array.type.ordered)
        # The order of a dictionary is that of the rows, unless its type says otherwise.
        has_order = is_ordered or self.category_dtype or hasattr(self.series.dtype, "categories")
        categories = tuple(self.entries) if has_order else sorted_by_type(self.entries)
        is_ordinal = is_ordered and not self.series.implementation.is_polars()
        return self.with_declared_role(
            Column(
                role="ordinal" if is_ordinal else "categorical",
                categories=categories,
                category_dtype=self.category_dtype,
            )
        )


def refuse_unparsable(series: Series, origin: str) -> None:
    """Raise DataError for text in which a few values are neither numbers nor dates.

    Such a column of a fitted model has a role already, so none is suggested.
    """
    counts = CategoryCounts(str(series.name), origin, None)
    counts.add_arrow(arrow_of(series), 0)
    for unparsable in find_unparsable(counts.value_counts()):
        unparsable.check(counts.name, origin, has_role=True)


class CategoryCounts:
    """The different values of a column, how often each occurs, and its first row."""

    def __init__(self, name: str, origin: str, max_values: int | None) -> None:
        self.name, self.origin, self.max_values = name, origin, max_values
        self.values: list[Any] = []
        self.counts: Array = np.zeros(0, np.int64)
        self._first: Array = np.zeros(0, np.int64)
        self._index: dict[object, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether there are more values than are kept."""
        return self.max_values is not None and len(self.values) > self.max_values

    def add_arrow(self, array: "pa.Array", row: int) -> None:
        """Count the values of an Arrow array that is not a dictionary."""
        encoded = array.drop_null().dictionary_encode()
        codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.intp)
        rows = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
        self._add(encoded.dictionary.to_pylist(), codes, rows + row)

    def add_numbers(self, numbers: Array, row: int) -> None:
        """Count numbers, none of which is missing."""
        values, codes = np.unique(numbers, return_inverse=True)
        self._add(values.tolist(), codes, row + np.arange(len(numbers)))
        if self.is_full:
            self.raise_full()

    def _add(self, values: list[Any], codes: Index, rows: Index) -> None:
        fresh = [value for value in values if value not in self._index]
        self._index |= {value: len(self.values) + i for i, value in enumerate(fresh)}
        self.values += fresh
        self.counts = np.concatenate([self.counts, np.zeros(len(fresh), np.int64)])
        self._first = np.concatenate([self._first, np.full(len(fresh), LAST_ROW)])
        if values:
            indices = np.asarray([self._index[value] for value in values])
            self.counts[indices] += np.bincount(codes, minlength=len(values))
            first = np.full(len(values), LAST_ROW)
            first[codes[::-1]] = rows[::-1]  # rows ascend, and the last assignment counts
            self._first[indices] = np.minimum(self._first[indices], first)

    def value_counts(self) -> ValueCounts:
        """The values and their counts."""

        def first(values: list[str]) -> tuple[int, str]:
            return min((int(self._first[self._index[value]]), value) for value in values)

        return ValueCounts(self.values, self.counts, first)

    def raise_full(self) -> None:
        """Raise for a column with too many categories."""
        raise data_error(
            self.origin,
            f"column {self.name!r} has more than {self.max_values} different values, too many for "
            f"categories; leave it out with {drop_column(self.name)}",
        )


def identifies_rows(n_different: int, n_values: int) -> bool:
    """Whether text with so many different values identifies rows instead of grouping them."""
    return n_different > FEW and n_different > MOSTLY_DISTINCT * n_values


def check_declared(
    name: str, column: Column, roles: Mapping[str, str], given: Mapping[str, str], origin: str
) -> None:
    """Raise DataError if a column cannot have its declared role.

    `roles` are the roles by name; `given` are as the user gave them, perhaps with "*".
    """
    declared = roles.get(name)
    if declared in (None, IDENTIFIER, column.role):
        return
    remedy = "leave the declaration out"
    if name not in given:
        identifier = either(
            f"roles={{{ALL_COLUMNS!r}: {declared!r}, {name!r}: {IDENTIFIER!r}}}",
            f"--role '{ALL_COLUMNS}={declared},{name}={IDENTIFIER}'",
        )
        remedy = f"declare a role of its own for it, or leave it out with {identifier}"
    raise data_error(
        origin,
        f"column {name!r} was declared {declared}, and its values are {column.role}; {remedy}, or "
        "convert the column",
    )


def left_out_remarks(reasons: Mapping[str, str]) -> Iterable[str]:
    """One line per column that is left out: why, and how to keep it."""
    for name, reason in reasons.items():
        yield (
            f"column {name!r} {reason} and is left out; declare a role to keep it, as in "
            f"{declare_role(name, 'categorical')}"
        )
