"""A column of a frame becomes one number a row: itself, a moment in time, or a place among levels.

Every library's columns are looked at as Arrow arrays, where text, dates and categories are not
numbers already.
"""

import re
from collections.abc import Callable
from numbers import Number
from typing import Any, NoReturn

import narwhals as nw
import numpy as np

from isthmus.data.arrays import fault
from isthmus.data.columns import Column
from isthmus.data.tables.datetimes import is_moment, moments, reads_as_date
from isthmus.data.tables.role_checks import check_values
from isthmus.types import Array

Series = nw.Series[Any]

NUMBER = re.compile(
    r"[ \t]*[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf(inity)?|nan)[ \t]*", re.IGNORECASE
)
"""Text that is a number to readers of CSV."""


def as_numbers(series: Series, column: Column, origin: str, first_row: int = 0) -> Array:
    """(n,): the values as the column's numbers, NaN where one is missing.

    Moments are microseconds since 1970, dates days since then, levels their positions; a level
    that the column does not have is missing, and so is all of a column without any value, whatever
    its type. Raises DataError (SourceError for a file) naming the column, the first value that is
    none of its kind, and the row, counted from `first_row`.
    """
    if column.levelled or column.role == "datetime":
        if is_empty(series):
            return np.full(len(series), np.nan)
        if column.levelled:
            return positions(series, column, origin, first_row)
        return _moments(series, column, origin, first_row)
    numbers = plain_numbers(series)
    if numbers is None and is_empty(series):
        return np.full(len(series), np.nan)
    if numbers is None:
        _refuse(series, f"not {_words(column)}", origin, first_row)
    if column.role == "count":
        check_values(str(series.name), numbers, column.role, origin, first_row)
    return numbers


def plain_numbers(series: Series) -> Array | None:
    """(n,): the values of a column of numbers or booleans, in their own dtype; None for others."""
    # The dtype follows from the whole column, so that every block of rows is read in the same one.
    if series.dtype == nw.Boolean or series.dtype.is_numeric():
        exact = series.dtype.is_float() or not series.null_count()
        if exact and not series.dtype.is_decimal() and series.dtype not in (nw.Int128, nw.UInt128):
            return series.to_numpy()
        if series.dtype.is_integer() and series.implementation.is_pyarrow():
            # pyarrow would refuse to cast what is beyond 2**53, but not to hand it over.
            return np.asarray(series.to_native().to_numpy(), np.float64)
        return series.cast(nw.Float64).to_numpy()
    return _objects(series) if series.dtype in (nw.Object, nw.Unknown) else None


def is_empty(series: Series) -> bool:
    """Whether a column has rows, and no value in any of them."""
    if not len(series) or series.null_count() == len(series):
        return len(series) > 0
    return series.dtype.is_float() and bool(np.isnan(series.to_numpy()).all())


def _objects(series: Series) -> Array | None:
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


def _is_real(value: Any) -> bool:
    # Decimals are numbers, and not Real; complex numbers are numbers too.
    return isinstance(value, (Number, np.bool_)) and not isinstance(
        value, (complex, np.complexfloating)
    )


def arrow_of(series: Series) -> Any:
    """The column as one Arrow array, or None where Arrow has no type for it (a mix of types)."""
    import pyarrow as pa

    try:
        array = series.to_arrow()
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError):
        return None
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def positions(series: Series, column: Column, origin: str, first_row: int = 0) -> Array:
    """(n,): where each value stands among the column's levels, NaN where it is not there."""
    import pyarrow as pa

    array = arrow_of(series)
    if array is None or not _fit(level_type(array), column):
        _refuse(series, f"not {_words(column)}", origin, first_row)
    if pa.types.is_dictionary(array.type):
        places = positions_of(array.dictionary, column)
        inside = array.indices.to_numpy(zero_copy_only=False).astype(np.float64)
        numbers, known = np.full(len(inside), np.nan), ~np.isnan(inside)
        numbers[known] = places[inside[known].astype(np.intp)]
        return numbers
    return positions_of(array, column)


def positions_of(array: Any, column: Column) -> Array:
    """(n,): the same for an Arrow array of plain values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not column.levels:
        return np.full(len(array), np.nan)
    wanted = pa.array(list(column.levels))
    if is_text(wanted.type) and not is_text(array.type):
        array = _as_written(array)
    if array.type != wanted.type:
        array = array.cast(wanted.type)
    found = pc.index_in(array, value_set=wanted, skip_nulls=True)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.float64)


def level_type(array: Any) -> Any:
    """The Arrow type of a column's values, be they written out or in a dictionary."""
    import pyarrow as pa

    return array.type.value_type if pa.types.is_dictionary(array.type) else array.type


def _fit(found: Any, column: Column) -> bool:
    """Whether values of this Arrow type may be among the column's levels."""
    import pyarrow as pa

    if pa.types.is_null(found) or not column.levels:
        return True
    if isinstance(column.levels[0], str):
        return is_text(found) or (_is_whole(found) and are_whole(column))
    return _is_number(found)


def are_whole(column: Column) -> bool:
    """Whether all levels are text that whole numbers are written as: "1", but not "01"."""
    return all(level == written(level) for level in column.levels)


def written(level: Any) -> str | None:
    """A level as text if it is a whole number, or text that reads as one; else None."""
    try:
        whole = int(level)
        return str(whole) if isinstance(level, str) or whole == level else None
    except (ValueError, OverflowError):
        return None


def _as_written(array: Any) -> Any:
    """Numbers of an Arrow array as text, null where one is not whole."""
    import pyarrow as pa

    return pa.array([None if x is None else written(x) for x in array.to_pylist()], pa.string())


def is_text(found: Any) -> bool:
    """Whether an Arrow type is text."""
    import pyarrow as pa

    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(found) for check in checks)


def _is_whole(found: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(found) or pa.types.is_floating(found))


def _is_number(found: Any) -> bool:
    import pyarrow as pa

    checks = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
    return any(check(found) for check in checks)


def _moments(series: Series, column: Column, origin: str, first_row: int) -> Array:
    array = arrow_of(series)
    if array is None or not is_moment(array.type):
        _refuse(series, "not dates", origin, first_row)
    return moments(array, column, str(series.name), origin, first_row)


def _words(column: Column) -> str:
    if column.levelled:
        return "text" if column.levels and isinstance(column.levels[0], str) else "numbers"
    return {"datetime": "dates", "boolean": "numbers"}.get(column.role, "numbers")


def _refuse(series: Series, wrong: str, origin: str, first_row: int = 0) -> NoReturn:
    reads = {"not numbers": reads_as_number, "not dates": reads_as_date}.get(wrong, lambda _: False)
    kind = "periods" if _is_periods(series) else _in_words(series)
    row, value = _first_bad(series.to_list(), reads)
    name = str(series.name)
    wanted = wrong.removeprefix("not ") + " (.dt.to_timestamp())" * _is_periods(series)
    raise fault(
        origin,
        f"column {name!r} is {kind}, {wrong} (first bad value {value!r} at row "
        f"{first_row + row}, counting from 0); make it {wanted}, or leave it out with "
        f"drop=[{name!r}] (command line: --drop {name})",
    )


def _in_words(series: Series) -> str:
    if series.dtype == nw.String:
        return "text"
    unknown = series.dtype == nw.Unknown and series.implementation.is_pandas()
    return f"{series.to_native().dtype if unknown else series.dtype} values"


def _first_bad(values: list[Any], reads: Callable[[Any], bool]) -> tuple[int, Any]:
    present = [(row, value) for row, value in enumerate(values) if value is not None]
    bad = (found for found in present if not reads(found[1]))
    return next(bad, present[0] if present else (0, None))


def reads_as_number(value: Any) -> bool:
    """Whether a value is a number, or text that a reader of CSV takes for one, as it does "1e3".

    Python's `float` takes more: "1_000", other digits than 0 to 9, other spaces.
    """
    if isinstance(value, str):
        return NUMBER.fullmatch(value) is not None
    if isinstance(value, np.complexfloating):  # `float` would drop the imaginary part
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def refuse_type(series: Series, origin: str) -> NoReturn:
    """Raise for a column that is of no kind there is."""
    if series.dtype in (nw.Object, nw.Unknown) and not _is_periods(series):
        _refuse(series, "not numbers", origin)
    _refuse(series, "not numbers, text or dates", origin)


def _is_periods(series: Series) -> bool:
    """Whether a column is of pandas' periods, which its .dt.to_timestamp() makes dates."""
    pandas = series.implementation.is_pandas()
    return pandas and str(series.to_native().dtype).startswith("period")
