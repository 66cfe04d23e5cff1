"""Converts numbers back to columns of pandas, polars or Arrow: text, categories, dates.

Each column is an Arrow array first, which is then converted to the column type of the library.
"""

import re
from typing import Any

import numpy as np

from isthmus.data.columns import Column
from isthmus.data.tables.datetimes import DAY
from isthmus.types import Array

FIRST_YEAR, LAST_YEAR = np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31", "us")
DAYS = (int(FIRST_YEAR.astype("M8[D]").astype(int)), int(LAST_YEAR.astype("M8[D]").astype(int)))
LARGEST = 2**63 - 1
DATETIME = re.compile(r"(Datetime|Duration)\(time_unit='(\w+)'(, time_zone=(None|'(.+)'))?\)")
DICTIONARY = re.compile(r"dictionary<values=(.+), indices=(\w+), ordered=([01])>")
STAMP = re.compile(r"(timestamp|duration|date32|date64)\[(\w+)(?:, tz=(.+))?\]")
TICKS = {"s": 10**-6, "ms": 10**-3, "us": 1, "ns": 1000}
"""How many of each unit are in a microsecond."""


def native_column(numbers: Array, column: Column, dtype: str, native: str | None, to: str) -> Any:
    """A column of the library `to` from (n,) numbers: text, dates or categories.

    Positions are rounded to the nearest category. Datetimes are rounded to the unit of the column
    and clipped to the years 1 to 9999, or to those that the unit reaches. NaN becomes a missing
    value.
    """
    kind = arrow_type(native) if to == "pyarrow" and native else arrow_named(dtype, column)
    if to == "pandas" and native is not None and native.endswith("[pyarrow]"):
        kind = arrow_type(native.removesuffix("[pyarrow]"))
    array = (
        _categories(numbers, column, kind)
        if column.has_categories
        else _datetimes(numbers, column, kind)
    )
    if to == "pyarrow":
        return array
    if to == "polars":
        return _polars(array, column, dtype)
    return _pandas(array, numbers, column, native)


def category_values(numbers: Array, column: Column) -> Array:
    """(n,): the categories at these positions, in their own dtype."""
    return np.asarray(column.categories)[_nearest(numbers, column)]


def as_text(numbers: Array, column: Column, dtype: str) -> list[Any]:
    """The readable value of each of (n,) numbers of a column: a category, date or boolean.

    Numbers stay numbers; a missing value is None.
    """
    values: list[Any]
    if column.has_categories:
        values = (
            [str(category) for category in category_values(numbers, column)]
            if column.categories
            else []
        )
    elif column.role == "datetime" and not dtype.startswith("Duration"):
        dates = _datetimes(np.asarray(numbers, np.float64), column, arrow_named(dtype, column))
        values = [str(date) for date in dates.to_pylist()]
    elif column.role == "boolean":
        values = (numbers >= 0.5).tolist()
    else:
        values = numbers.tolist()
    missing = np.isnan(numbers)
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]


def _nearest(numbers: Array, column: Column) -> Array:
    last = max(len(column.categories) - 1, 0)
    return np.asarray(np.clip(np.rint(np.nan_to_num(numbers)), 0, last), np.intp)


def arrow_type(text: str) -> Any:
    """The Arrow type whose `str` is this text."""
    import pyarrow as pa

    dictionary, stamp = DICTIONARY.fullmatch(text), STAMP.fullmatch(text)
    if dictionary is not None:
        values, indices, ordered = dictionary.groups()
        return pa.dictionary(arrow_type(indices), arrow_type(values), ordered == "1")
    if stamp is None:
        return pa.type_for_alias(text)
    name, unit, zone = stamp.groups()
    if name == "timestamp":
        return pa.timestamp(unit, zone)
    return {"duration": pa.duration, "date32": pa.date32, "date64": pa.date64}[name](
        *((unit,) if name == "duration" else ())
    )


def arrow_named(dtype: str, column: Column) -> Any:
    """The Arrow type of a narwhals dtype."""
    import pyarrow as pa

    match = DATETIME.fullmatch(dtype)
    if match is not None:
        unit, zone = match[2], match[5]
        return pa.timestamp(unit, zone) if match[1] == "Datetime" else pa.duration(unit)
    if dtype == "Date":
        return pa.date32()
    return pa.array(list(column.categories)).type if column.categories else pa.string()


def _categories(numbers: Array, column: Column, kind: Any) -> Any:
    import pyarrow as pa

    missing, nearest = np.isnan(numbers), _nearest(numbers, column)
    categories = pa.array(list(column.categories))
    if pa.types.is_dictionary(kind):
        codes = pa.array(nearest, mask=missing, type=kind.index_type)
        values = categories.cast(kind.value_type)
        return pa.DictionaryArray.from_arrays(codes, values, ordered=kind.ordered)
    if not len(categories):
        return pa.nulls(len(numbers), kind)
    return categories.take(pa.array(nearest, mask=missing)).cast(kind)


def _datetimes(numbers: Array, column: Column, kind: Any) -> Any:
    import pyarrow as pa

    missing, days = np.isnan(numbers), pa.types.is_date(kind)
    known = np.where(missing, 0.0, numbers)
    if column.time_type and days != (column.time_type == "date"):
        known = known / DAY if days else known * DAY
    if days:
        whole = np.clip(np.rint(known), *DAYS).astype(np.int32)
        return pa.array(whole, mask=missing).cast(pa.date32()).cast(kind)
    ticks = TICKS[kind.unit]
    low, high = float(-LARGEST), float(LARGEST)
    if pa.types.is_timestamp(kind):
        low, high = (int(year.astype(int)) * ticks for year in (FIRST_YEAR, LAST_YEAR))
    low, high = max(low, -LARGEST), min(high, LARGEST)
    # The largest whole number that is a float, and no larger than the limit.
    whole = np.clip(np.rint(known * ticks), float(low), np.nextafter(float(high), 0))
    return pa.array(whole.astype(np.int64), mask=missing).cast(kind)


def _polars(array: Any, column: Column, dtype: str) -> Any:
    import polars as pl

    made = pl.from_arrow(array)
    if dtype == "Enum":
        return made.cast(pl.Enum([str(category) for category in column.categories]))
    return made.cast(pl.Categorical) if dtype == "Categorical" else made


def _pandas(array: Any, numbers: Array, column: Column, native: str | None) -> Any:
    import pandas as pd

    if native is not None and native.endswith("[pyarrow]"):
        return pd.Series(pd.arrays.ArrowExtensionArray(array))
    if native == "category":
        codes = np.where(np.isnan(numbers), -1, _nearest(numbers, column))
        categories = pd.Index(list(column.categories), dtype=column.category_dtype or None)
        ordered = column.role == "ordinal"
        return pd.Series(pd.Categorical.from_codes(codes, categories, ordered=ordered))
    if native == "object":
        return pd.Series(array.to_pylist(), dtype=object)
    made = array.to_pandas()
    return made if native is None else made.astype(native)
