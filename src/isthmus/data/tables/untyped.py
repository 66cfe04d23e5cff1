"""Columns of new rows take the type of a fitted model's where their values do not tell it.

Those without any value tell none, and in a file of text digits may be numbers or names.
"""

import re
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np

from isthmus.data.columns import Column
from isthmus.data.schema import FRAMES, Schema
from isthmus.data.tables.from_numbers import arrow_named, native_column
from isthmus.data.tables.pandas_metadata import without_types
from isthmus.data.tables.to_numbers import is_empty, is_text

Series = nw.Series[Any]
NUMBER = re.compile(r"(U?Int|Float)(8|16|32|64)")


def text_columns(schema: Schema, names: Sequence[str], left_out: Sequence[str] = ()) -> list[str]:
    """Which of these columns, in the order of the model's, are names: its levels are text.

    So are those `left_out` that the model leaves out too.
    """
    columns = schema.columns or ()
    levelled = [
        name
        for name, column in zip(names, columns, strict=False)
        if column.levelled and column.levels and isinstance(column.levels[0], str)
    ]
    known = set(schema.left_out)
    return [*levelled, *(name for name in left_out if name in known)]


def lacks_type(series: Series, schema: Schema, at: int) -> bool:
    """Whether a column has no value, and no type that one of the model's column would have."""
    column = schema.columns[at] if schema.columns is not None else Column()
    text = series.dtype == nw.String and not column.levelled
    vague = series.dtype in (nw.Unknown, nw.Object) or text
    floats = series.dtype.is_float() and not _is_number(schema, at)
    return (vague or floats) and is_empty(series)


def may_lack_type(found: Any, schema: Schema, at: int) -> bool:
    """Whether a column of this Arrow type lacks one where it has no value."""
    import pyarrow as pa

    column = schema.columns[at] if schema.columns is not None else Column()
    text = is_text(found) and not column.levelled
    floats = pa.types.is_floating(found) and not _is_number(schema, at)
    return pa.types.is_null(found) or text or floats


def known_dtype(schema: Schema, at: int) -> tuple[str, str | None]:
    """What narwhals calls the dtype of a column of a fitted model, and what its library does."""
    if schema.container not in FRAMES:
        return "Float64", None
    native = schema.natives[at] if schema.natives is not None else None
    return schema.dtypes[at if len(schema.dtypes) > 1 else 0], native


def known_type(schema: Schema, at: int) -> Any:
    """The Arrow type of the values of a column of a fitted model."""
    import pyarrow as pa

    column = schema.columns[at] if schema.columns is not None else Column()
    dtype, _ = known_dtype(schema, at)
    if column.levelled or column.role == "datetime":
        return arrow_named(dtype, column)
    if dtype == "Boolean":
        return pa.bool_()
    return pa.type_for_alias(dtype.lower()) if NUMBER.fullmatch(dtype) else pa.float64()


def _is_number(schema: Schema, at: int) -> bool:
    column = schema.columns[at] if schema.columns is not None else Column()
    special = column.levelled or column.role == "datetime"
    return not special and known_dtype(schema, at)[0] != "Boolean"


def all_missing(series: Series, schema: Schema, at: int) -> tuple[Series, str | None]:
    """A column of the same length and library without any value, and the dtype to restore it by.

    The dtype is None where it is what the column says of itself.
    """
    import pyarrow as pa

    n, name, library = len(series), str(series.name), series.implementation
    if not library.is_pandas():
        made: Any = pa.nulls(n, known_type(schema, at))
        if library.is_polars():
            import polars as pl

            made = pl.from_arrow(made)
        else:
            made = pa.chunked_array([made])
        return nw.from_native(made, series_only=True).alias(name), None
    made, dtype = _of_pandas(n, schema, at)
    made.index = series.to_native().index
    return nw.from_native(made.rename(series.to_native().name), series_only=True), dtype


def _of_pandas(n: int, schema: Schema, at: int) -> tuple[Any, str | None]:
    import pandas as pd

    column = schema.columns[at] if schema.columns is not None else Column()
    dtype, native = known_dtype(schema, at)
    special = column.role == "datetime" or (
        column.levelled and not dtype.startswith(("Int", "UInt", "Float", "Decimal"))
    )
    if special:
        own = native if schema.container == "pandas" else None
        return pd.Series(native_column(np.full(n, np.nan), column, dtype, own, "pandas")), dtype
    if dtype == "Boolean":
        return pd.Series(pd.array([None] * n, dtype="boolean")), None
    return pd.Series(np.full(n, np.nan)), None


def with_types(
    table: Any, picked: Sequence[Series], schema: Schema
) -> tuple[list[Series], Any, dict[int, str]]:
    """Columns and their table, those without any value made the types that they have in `schema`.

    Also the dtypes by which some are restored, which their values do not tell, by position.
    """
    made, dtypes = list(picked), dict[int, str]()
    for at, series in enumerate(picked):
        if lacks_type(series, schema, at):
            made[at], dtype = all_missing(series, schema, at)
            table = put_column(table, made[at])
            dtypes |= {} if dtype is None else {at: dtype}
    return made, table, dtypes


def put_column(table: Any, series: Series) -> Any:
    """The table with one of its columns replaced; pandas' labels need not be text.

    What pandas called the dtype of a column before is not true of another one.
    """
    if not table.implementation.is_pandas():
        table = table.with_columns(series)
        if not table.implementation.is_pyarrow():
            return table
        return nw.from_native(without_types(table.to_native(), [series.name]), eager_only=True)
    frame = table.to_native().copy(deep=False)
    place = [str(label) for label in frame.columns].index(str(series.name))
    frame.isetitem(place, series.to_native())
    return nw.from_native(frame, eager_only=True)
