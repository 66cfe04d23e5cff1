"""Rows with missing values filled in; all other values stay the same to the bit."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import narwhals as nw
import numpy as np

from isthmus.data.columns import Category
from isthmus.data.schema import FRAMES, Schema
from isthmus.data.signals.recordings import RecordingSource
from isthmus.data.source import Source
from isthmus.data.splitting.holdout import row_blocks
from isthmus.data.tables.frames import FrameSource
from isthmus.data.tables.restore import NUMPY_NAMES, cast, restore
from isthmus.data.tables.streamed import StreamedTable
from isthmus.data.tables.untyped import replace_column
from isthmus.types import Array

WHOLE = ("Boolean", "Int", "UInt")
"""The beginnings of the names of dtypes without fractions."""


def fill(source: Source, values: Array | None, known: Schema | None = None) -> Any:
    """The rows in their container, with missing values taken from `values` (n, *shape).

    A table keeps all its columns, also those that were left out; None leaves all as it is. `known`
    is the model's schema. A column that it has as booleans or whole numbers is filled with those,
    and a column without any value gets its dtype from it.
    """
    if isinstance(source, RecordingSource):
        joined = [None] * len(source.parts) if values is None else source.join(values)
        filled = [fill(part, rows) for part, rows in zip(source.parts, joined, strict=True)]
        return source.in_given_form(filled)
    if isinstance(source, FrameSource):
        if values is None:
            return source.table.to_native()
        return _fill_frame(source, *_in_model_dtypes(source, values, known))
    rows = source.read(np.arange(len(source)))
    if values is not None and rows.dtype.kind == "f":
        rows = np.where(np.isnan(rows), values, rows)
    return restore(rows, source.schema)


def fill_each(source: Source, fill_one: Callable[[FrameSource], Any]) -> Any:
    """The pyarrow table of a table on disk whose pieces `fill_one` fills one by one."""
    import pyarrow as pa

    assert isinstance(source, StreamedTable)
    return pa.concat_tables([fill_one(frame) for frame in source.frames()])


def other_columns(source: Source) -> list[str]:
    """The columns of a table that `fill` returns and that are not among its features."""
    if isinstance(source, StreamedTable):
        names = [name for name in source.records.names if name in source.table_columns]
        features = set(source.features)
    elif isinstance(source, FrameSource):
        names, features = source.table.columns, {str(series.name) for series in source.series}
    else:
        return []
    return [name for name in names if name not in features]


def count_missing(source: Source) -> int:
    """The number of missing values."""
    if isinstance(source, RecordingSource):  # windows share values, and padding is no loss
        return sum(count_missing(part) for part in source.parts)
    if isinstance(source, FrameSource):
        return sum(int(source.missing(column).sum()) for column in range(len(source.series)))
    return sum(int(np.isnan(source.read(block)).sum()) for block in row_blocks(source))


def count_missing_in_other_columns(source: Source) -> dict[str, int]:
    """The number of missing values per column outside the features, which are not filled."""
    if not isinstance(source, FrameSource):
        return {}
    beside = [source.table.get_column(name) for name in other_columns(source)]
    counts = {series.name: series.null_count() for series in beside}
    for series in beside:
        if series.dtype.is_float():
            counts[series.name] += int(series.is_nan().fill_null(value=False).sum())
    return {name: count for name, count in counts.items() if count}


def _in_model_dtypes(
    source: FrameSource, values: Array, known: Schema | None
) -> tuple[Array, Schema]:
    """The values in the model's dtypes, and the schema of the columns made of them."""
    own = source.schema
    if known is None or known.container not in FRAMES or len(known.dtypes) != own.n_features:
        return values, own
    values, dtypes = np.array(values, np.float64), list(own.dtypes)
    natives = None if own.natives is None else list(own.natives)
    for index, dtype in enumerate(known.dtypes):
        has_categories = known.columns is not None and known.columns[index].has_categories
        if dtype.startswith(WHOLE) and not has_categories:
            values[:, index] = cast(values[:, index], NUMPY_NAMES.get(dtype, dtype.lower()))
        if _has_no_type(source, index):
            dtypes[index] = dtype
            if natives is not None:
                natives[index] = _native(known, index, own.container, dtype)
    return values, replace(
        own, dtypes=tuple(dtypes), natives=None if natives is None else tuple(natives)
    )


def _native(known: Schema, index: int, container: str, dtype: str) -> str:
    """The dtype of a column of the model, as the library of the rows names it."""
    if known.natives is not None and known.container == container:
        return known.natives[index]
    return NUMPY_NAMES.get(dtype, dtype.lower())


def _has_no_type(source: FrameSource, index: int) -> bool:
    """Whether neither the values nor the dtype of a column determine its type."""
    series = source.series[index]
    if series.dtype == nw.Unknown:
        return True
    # A piece without values may belong to a column that has some, so its type is kept.
    vague = series.dtype == nw.Object or series.dtype.is_float()
    return vague and not source.is_piece and bool(source.missing(index).all())


def _fill_frame(source: FrameSource, values: Array, schema: Schema) -> Any:
    made = nw.from_native(restore(values, schema), eager_only=True)
    table = source.table
    if table.implementation.is_pandas():
        return _fill_pandas(source, table.to_native().copy(), made.to_native())
    for index, (series, fresh) in enumerate(zip(source.series, made.iter_columns(), strict=True)):
        missing = source.missing(index)
        if _has_no_type(source, index) and series.dtype != fresh.dtype:
            table = replace_column(table, fresh.alias(series.name))
        elif missing.any() and isinstance(series.dtype, nw.Categorical) and _is_arrow(table):
            categories = source.schema.columns[index].categories if source.schema.columns else ()
            filled = _fill_dictionary(series.to_native(), missing, fresh.to_native(), categories)
            table = _with_column(table, str(series.name), filled)
        elif missing.any() and isinstance(series.dtype, nw.Enum):
            categories = source.schema.columns[index].categories if source.schema.columns else ()
            table = table.with_columns(_fill_enum(series, missing, fresh, categories))
        elif missing.any():
            known = nw.new_series("known", ~missing, backend=series.implementation)
            table = table.with_columns(series.zip_with(known, fresh.alias(series.name)))
    return table.to_native()


def _is_arrow(table: Any) -> bool:
    return bool(table.implementation.is_pyarrow())


def _with_column(table: Any, name: str, column: Any) -> Any:
    native = table.to_native()
    index = native.column_names.index(name)
    return nw.from_native(native.set_column(index, name, column), eager_only=True)


def _fill_dictionary(
    column: Any, missing: Array, fresh: Any, categories: Sequence[Category]
) -> Any:
    """(n,) a dictionary column of Arrow filled in; its categories keep their order.

    Arrow itself would list the categories in the order of their first rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    own = column.unify_dictionaries().combine_chunks()
    own = own if isinstance(own, pa.DictionaryArray) else own.chunk(0)
    filled = fresh.cast(kind.value_type).combine_chunks()
    needed = filled.filter(pa.array(missing)).drop_null().unique().to_pylist()
    # All pieces of an ordered column list the same categories, so that a file keeps their order.
    needed = [*needed, *categories] if kind.ordered else needed
    listed = _category_list(own.dictionary.to_pylist(), needed, categories)
    dictionary = pa.array(listed, kind.value_type)
    places = pc.index_in(own.dictionary, value_set=dictionary)
    codes = pc.if_else(
        pa.array(missing),
        pc.index_in(filled, value_set=dictionary, skip_nulls=True),
        places.take(own.indices.cast(pa.int32())),
    )
    fits = len(listed) <= np.iinfo(kind.index_type.to_pandas_dtype()).max
    indices = codes.cast(kind.index_type) if fits else codes
    return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=kind.ordered)


def _fill_enum(series: Any, missing: Array, fresh: Any, categories: Sequence[Category]) -> Any:
    """(n,) an Enum column of polars filled in; its categories are part of its type."""
    texts = fresh.cast(nw.String).alias(series.name)
    needed = texts.filter(missing.tolist()).drop_nulls().unique(maintain_order=True).to_list()
    listed = _category_list(list(series.dtype.categories), needed, categories)
    known = nw.new_series("known", ~missing, backend=series.implementation)
    return series.cast(nw.String).zip_with(known, texts).cast(nw.Enum(listed))


def _category_list(own: list[Any], needed: Sequence[Any], categories: Sequence[Any]) -> list[Any]:
    """The categories of a column and the `needed` ones, in the model's order if it has that."""
    more = [category for category in dict.fromkeys(needed) if category not in own]
    if not more:
        return own
    if [category for category in categories if category in own] == own:
        return list(categories)
    return [*own, *more]


def _fill_pandas(source: FrameSource, frame: Any, made: Any) -> Any:
    """The pandas DataFrame filled in; its column labels may be other than text."""
    places = {str(label): index for index, label in enumerate(frame.columns)}
    for index, series in enumerate(source.series):
        missing = source.missing(index)
        if not missing.any():
            continue
        native, fresh = series.to_native(), made.iloc[:, index]
        fresh.index = native.index
        if _has_no_type(source, index) and native.dtype != fresh.dtype:
            filled = fresh
        elif hasattr(native, "cat") and hasattr(native.cat, "categories"):
            categories = source.schema.columns[index].categories if source.schema.columns else ()
            filled = _fill_categories(native, missing, fresh, categories)
        else:
            filled = native.where(~missing, fresh)
        frame.isetitem(places[str(series.name)], filled)
    return frame


def _fill_categories(
    native: Any, missing: Array, fresh: Any, categories: Sequence[Category]
) -> Any:
    """A categorical column of pandas filled in; categories it does not have yet are added."""
    own = native.cat.categories.tolist()
    values = fresh.astype(object).where(missing, native.astype(object))
    listed = _category_list(own, values[missing].dropna().unique().tolist(), categories)
    if listed == own:
        return values.astype(native.dtype)
    import pandas as pd

    return values.astype(pd.CategoricalDtype(listed, ordered=native.cat.ordered))
