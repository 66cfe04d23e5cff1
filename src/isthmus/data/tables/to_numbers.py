"""Turns a column of a frame into one number per row.

Text, dates and categories of every library are first turned into Arrow arrays.
"""

import re
from collections.abc import Callable, Sequence
from numbers import Number
from typing import TYPE_CHECKING, Any, NoReturn

import narwhals as nw
import numpy as np

from isthmus.data.arrays import data_error
from isthmus.data.columns import Category, Column
from isthmus.data.tables.datetimes import is_time_type, parses_as_date, timestamps
from isthmus.errors import drop_column
from isthmus.types import Array

if TYPE_CHECKING:
    import pyarrow as pa

Series = nw.Series[Any]

NUMBER = re.compile(
    r"[ \t]*[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf(inity)?|nan)[ \t]*", re.IGNORECASE
)
"""Text that CSV readers take for a number."""

ROLE_CHECKS: dict[str | None, tuple[Callable[[Array], Array], str]] = {
    "count": (lambda x: (x >= 0) & (x == np.rint(x)), "a whole number of at least 0"),
    "boolean": (lambda x: (x == 0) | (x == 1), "0 or 1"),
}
"""Which numbers a column of a declared role may hold, and what messages call them."""


def as_numbers(series: Series, column: Column, origin: str, first_row: int = 0) -> Array:
    """(n,): the numbers of the column's values, NaN where one is missing.

    Timestamps are microseconds since 1970, dates are days, categories are their positions. A value
    that is not among the categories is missing. A column without any value is all missing,
    whatever its type.

    Raises DataError (SourceError for a file) for the first value of another kind; it names the
    column and the row, counted from `first_row`.
    """
    if column.has_categories or column.role == "datetime":
        if is_empty(series):
            return np.full(len(series), np.nan)
        if column.has_categories:
            return positions(series, column, origin, first_row)
        return _timestamps(series, column, origin, first_row)
    numbers = plain_numbers(series)
    if numbers is None and is_empty(series):
        return np.full(len(series), np.nan)
    if numbers is None:
        _raise_unreadable(series, f"not {_kind_of_values(column)}", origin, first_row)
    if column.role == "count":
        check_role(str(series.name), numbers, column.role, origin, first_row)
    return numbers


def plain_numbers(series: Series) -> Array | None:
    """(n,): the values of a column of numbers or booleans, in their own dtype; None for others."""
    # The dtype follows from the whole column, so that every block of rows is read in the same one.
    if series.dtype == nw.Boolean or series.dtype.is_numeric():
        exact = series.dtype.is_float() or not series.null_count()
        if exact and not series.dtype.is_decimal() and series.dtype not in (nw.Int128, nw.UInt128):
            return series.to_numpy()
        if series.dtype.is_integer() and series.implementation.is_pyarrow():
            # pyarrow refuses to cast integers beyond 2**53, but not to export them.
            return np.asarray(series.to_native().to_numpy(), np.float64)
        return series.cast(nw.Float64).to_numpy()
    return _numbers_of_objects(series) if series.dtype in (nw.Object, nw.Unknown) else None


def is_empty(series: Series) -> bool:
    """Whether a column has rows, but no value in any of them."""
    if not len(series) or series.null_count() == len(series):
        return len(series) > 0
    return series.dtype.is_float() and bool(np.isnan(series.to_numpy()).all())


def _numbers_of_objects(series: Series) -> Array | None:
    values = series.to_numpy()
    if values.dtype.kind in "biuf":
        return values
    missing = np.asarray(series.is_null().to_numpy(), bool)
    present = values[~missing]
    if not all(map(_is_real, present)):
        return None
    numbers = np.full(len(values), np.nan)
    numbers[~missing] = present.astype(np.float64)
    return numbers


def _is_real(value: object) -> bool:
    # Decimals are Numbers, but not Real; complex numbers are Numbers too.
    return isinstance(value, (Number, np.bool_)) and not isinstance(
        value, (complex, np.complexfloating)
    )


def check_role(
    name: str, numbers: Array, role: str | None, origin: str, first_row: int = 0
) -> None:
    """Raise DataError for the first number that a column of the declared role cannot hold."""
    fits, _ = ROLE_CHECKS[role]
    wrong = ~(fits(numbers) | np.isnan(numbers))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise_bad_value(name, numbers[row], first_row + row, str(role), origin)


def raise_bad_value(name: str, value: float, row: int, role: str, origin: str) -> NoReturn:
    """Raise DataError for a number that a column of the declared role cannot hold."""
    _, allowed = ROLE_CHECKS[role]
    raise data_error(
        origin,
        f"column {name!r} was declared {role}, and {value} at row {row}, counting "
        f"from 0, is not {allowed}; correct it, or declare another role",
    )


def arrow_of(series: Series) -> "pa.Array | None":
    """The column as one Arrow array, or None if Arrow has no type for it (a mix of types)."""
    import pyarrow as pa

    try:
        array = series.to_arrow()
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError):
        return None
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def positions(series: Series, column: Column, origin: str, first_row: int = 0) -> Array:
    """(n,): the position of each value among the column's categories, NaN if it is not there."""
    import pyarrow as pa

    array = arrow_of(series)
    if array is None or not _may_hold_categories(value_type(array), column):
        _raise_unreadable(series, f"not {_kind_of_values(column)}", origin, first_row)
    if pa.types.is_dictionary(array.type):
        of_entries = arrow_positions(array.dictionary, column)
        indices = array.indices.to_numpy(zero_copy_only=False).astype(np.float64)
        numbers, present = np.full(len(indices), np.nan), ~np.isnan(indices)
        numbers[present] = of_entries[indices[present].astype(np.intp)]
        return numbers
    return arrow_positions(array, column)


def arrow_positions(array: "pa.Array", column: Column) -> Array:
    """(n,): `positions` for an Arrow array that is not a dictionary."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not column.categories:
        return np.full(len(array), np.nan)
    categories = pa.array(list(column.categories))
    if is_text(categories.type) and not is_text(array.type):
        array = _integers_as_text(array)
    if array.type != categories.type:
        array = array.cast(categories.type)
    indices = pc.index_in(array, value_set=categories, skip_nulls=True)
    return np.asarray(indices.to_numpy(zero_copy_only=False), np.float64)


def value_type(array: "pa.Array") -> "pa.DataType":
    """The Arrow type of a column's values, whether or not it is a dictionary."""
    import pyarrow as pa

    return array.type.value_type if pa.types.is_dictionary(array.type) else array.type


def _may_hold_categories(kind: "pa.DataType", column: Column) -> bool:
    """Whether values of this Arrow type may be among the column's categories."""
    import pyarrow as pa

    if pa.types.is_null(kind) or not column.categories:
        return True
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if isinstance(column.categories[0], str):
        return is_text(kind) or (is_number and are_integer_texts(column.categories))
    return bool(is_number or pa.types.is_boolean(kind))


def are_integer_texts(categories: Sequence[Category]) -> bool:
    """Whether all categories are the text of whole numbers: "1", but not "01"."""
    return all(category == as_integer_text(category) for category in categories)


def as_integer_text(value: Category) -> str | None:
    """The text of a whole number, or of text that parses as one; otherwise None."""
    try:
        whole = int(value)
        return str(whole) if isinstance(value, str) or whole == value else None
    except (ValueError, OverflowError):
        return None


def _integers_as_text(array: "pa.Array") -> "pa.Array":
    """The numbers of an Arrow array as text, null where one is not whole."""
    import pyarrow as pa

    texts = [None if value is None else as_integer_text(value) for value in array.to_pylist()]
    return pa.array(texts, pa.string())


def is_text(kind: "pa.DataType") -> bool:
    """Whether an Arrow type is text."""
    import pyarrow as pa

    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(kind) for check in checks)


def _timestamps(series: Series, column: Column, origin: str, first_row: int) -> Array:
    array = arrow_of(series)
    if array is None or not is_time_type(array.type):
        _raise_unreadable(series, "not dates", origin, first_row)
    return timestamps(array, column, str(series.name), origin, first_row)


def _kind_of_values(column: Column) -> str:
    if column.has_categories:
        return "text" if column.categories and isinstance(column.categories[0], str) else "numbers"
    return "dates" if column.role == "datetime" else "numbers"


def _raise_unreadable(series: Series, wrong: str, origin: str, first_row: int = 0) -> NoReturn:
    """Raise for a column whose values are not what `wrong` ("not numbers") says."""
    parsers = {"not numbers": parses_as_number, "not dates": parses_as_date}
    parses = parsers.get(wrong, lambda _: False)
    kind = "periods" if _is_periods(series) else _type_name(series)
    row, value = _first_bad(series.to_list(), parses)
    name = str(series.name)
    wanted = wrong.removeprefix("not ") + " (.dt.to_timestamp())" * _is_periods(series)
    raise data_error(
        origin,
        f"column {name!r} is {kind}, {wrong} (first bad value {value!r} at row "
        f"{first_row + row}, counting from 0); make it {wanted}, or leave it out with "
        f"{drop_column(name)}",
    )


def _type_name(series: Series) -> str:
    if series.dtype == nw.String:
        return "text"
    is_pandas_type = series.dtype == nw.Unknown and series.implementation.is_pandas()
    return f"{series.to_native().dtype if is_pandas_type else series.dtype} values"


def _first_bad(values: list[object], parses: Callable[[object], bool]) -> tuple[int, object]:
    present = [(row, value) for row, value in enumerate(values) if value is not None]
    bad = ((row, value) for row, value in present if not parses(value))
    return next(bad, present[0] if present else (0, None))


def parses_as_number(value: object) -> bool:
    """Whether a value is a number, or text that CSV readers take for one, such as "1e3".

    Python's `float` accepts more: "1_000", other digits than 0 to 9, other spaces.
    """
    if isinstance(value, str):
        return NUMBER.fullmatch(value) is not None
    if isinstance(value, np.complexfloating):  # `float` would drop the imaginary part
        return False
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def raise_unsupported_type(series: Series, origin: str) -> NoReturn:
    """Raise for a column whose type is not supported."""
    if series.dtype in (nw.Object, nw.Unknown) and not _is_periods(series):
        _raise_unreadable(series, "not numbers", origin)
    _raise_unreadable(series, "not numbers, text or dates", origin)


def _is_periods(series: Series) -> bool:
    """Whether a column holds pandas' periods, which .dt.to_timestamp() turns into dates."""
    pandas = series.implementation.is_pandas()
    return pandas and str(series.to_native().dtype).startswith("period")
