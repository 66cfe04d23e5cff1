"""Gives columns of new rows the type they have in a fitted model if their values leave it open.

A column without any value has no type, and in a text file digits may be numbers or names.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from isthmus.data.columns import Column
from isthmus.data.schema import FRAMES, Schema
from isthmus.data.tables.from_numbers import arrow_named, native_column
from isthmus.data.tables.pandas_metadata import without_types
from isthmus.data.tables.to_numbers import Series, is_empty, is_text

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Frame = nw.DataFrame[Any]
NUMBER = re.compile(r"(U?Int|Float)(8|16|32|64)")


def text_columns(schema: Schema, names: Sequence[str], left_out: Sequence[str] = ()) -> list[str]:
    """The columns whose values are text to a fitted model, even if they consist of digits.

    `names` are the model's columns in its order; of `left_out`, those that it leaves out too.
    """
    with_text = [
        name
        for name, column in zip(names, schema.columns or (), strict=False)
        if column.has_categories and column.categories and isinstance(column.categories[0], str)
    ]
    identifiers = set(schema.left_out)
    return [*with_text, *(name for name in left_out if name in identifiers)]


def has_no_type(series: Series, schema: Schema, index: int) -> bool:
    """Whether a column has no value, and not a type that the model's column could have."""
    text = series.dtype == nw.String and not _column(schema, index).has_categories
    unknown = series.dtype in (nw.Unknown, nw.Object) or text
    floats = series.dtype.is_float() and not _is_number(schema, index)
    return (unknown or floats) and is_empty(series)


def may_have_no_type(kind: "pa.DataType", schema: Schema, index: int) -> bool:
    """Whether a column of this Arrow type has no type if it has no value."""
    import pyarrow as pa

    text = is_text(kind) and not _column(schema, index).has_categories
    floats = pa.types.is_floating(kind) and not _is_number(schema, index)
    return pa.types.is_null(kind) or text or floats


def model_dtype(schema: Schema, index: int) -> tuple[str, str | None]:
    """Narwhals' name for the dtype of a fitted model's column, and its own library's name."""
    if schema.container not in FRAMES:
        return "Float64", None
    native = schema.natives[index] if schema.natives is not None else None
    return schema.dtypes[index if len(schema.dtypes) > 1 else 0], native


def model_arrow_type(schema: Schema, index: int) -> "pa.DataType":
    """The Arrow type of the values of a fitted model's column."""
    import pyarrow as pa

    column = _column(schema, index)
    dtype, _ = model_dtype(schema, index)
    if column.has_categories or column.role == "datetime":
        return arrow_named(dtype, column)
    if dtype == "Boolean":
        return pa.bool_()
    return pa.type_for_alias(dtype.lower()) if NUMBER.fullmatch(dtype) else pa.float64()


def _column(schema: Schema, index: int) -> Column:
    return schema.columns[index] if schema.columns is not None else Column()


def _is_number(schema: Schema, index: int) -> bool:
    column = _column(schema, index)
    special = column.has_categories or column.role == "datetime"
    return not special and model_dtype(schema, index)[0] != "Boolean"


def missing_column(series: Series, schema: Schema, index: int) -> tuple[Series, str | None]:
    """A column of the same length and library that is all missing, and its dtype for `restore`.

    The dtype is None if it is the column's own.
    """
    import pyarrow as pa

    n, name, library = len(series), str(series.name), series.implementation
    if not library.is_pandas():
        column: Any = pa.nulls(n, model_arrow_type(schema, index))
        if library.is_polars():
            import polars as pl

            column = pl.from_arrow(column)
        else:
            column = pa.chunked_array([column])
        return nw.from_native(column, series_only=True).alias(name), None
    column, dtype = _missing_pandas_column(n, schema, index)
    column.index = series.to_native().index
    return nw.from_native(column.rename(series.to_native().name), series_only=True), dtype


def _missing_pandas_column(n: int, schema: Schema, index: int) -> tuple["pd.Series", str | None]:
    import pandas as pd

    column = _column(schema, index)
    dtype, native = model_dtype(schema, index)
    special = column.role == "datetime" or (
        column.has_categories and not dtype.startswith(("Int", "UInt", "Float", "Decimal"))
    )
    if special:
        own = native if schema.container == "pandas" else None
        return pd.Series(native_column(np.full(n, np.nan), column, dtype, own, "pandas")), dtype
    if dtype == "Boolean":
        return pd.Series(pd.array([None] * n, dtype="boolean")), None
    return pd.Series(np.full(n, np.nan)), None


def with_model_types(
    table: Frame, picked: Sequence[Series], schema: Schema
) -> tuple[list[Series], Frame, dict[int, str]]:
    """Columns and their table, of which those without any value get their types in `schema`.

    Also the dtypes for `restore`, by position, of columns whose values do not say them.
    """
    columns, dtypes = list(picked), dict[int, str]()
    for index, series in enumerate(picked):
        if has_no_type(series, schema, index):
            columns[index], dtype = missing_column(series, schema, index)
            table = replace_column(table, columns[index])
            dtypes |= {} if dtype is None else {index: dtype}
    return columns, table, dtypes


def replace_column(table: Frame, series: Series) -> Frame:
    """The table with one column replaced; pandas' labels need not be text.

    pandas' metadata about the old column is dropped from an Arrow table.
    """
    if not table.implementation.is_pandas():
        table = table.with_columns(series)
        if not table.implementation.is_pyarrow():
            return table
        return nw.from_native(without_types(table.to_native(), [series.name]), eager_only=True)
    frame = table.to_native().copy(deep=False)
    position = [str(label) for label in frame.columns].index(str(series.name))
    frame.isetitem(position, series.to_native())
    return nw.from_native(frame, eager_only=True)
