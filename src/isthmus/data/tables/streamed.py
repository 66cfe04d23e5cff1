"""A source over a table on disk, read one record batch at a time."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import narwhals as nw
import numpy as np
import torch

from isthmus.data.columns import Column, check_roles
from isthmus.data.on_disk import ChunkedSource
from isthmus.data.schema import Layout, Schema
from isthmus.data.tables.frames import (
    NO_ROLES,
    FrameSource,
    check_layout,
    schema_of,
    unless_all_numeric,
)
from isthmus.data.tables.infer import check_declared, left_out_remarks
from isthmus.data.tables.infer_streamed import BATCH_ROWS, InferredTable, infer_table
from isthmus.data.tables.pandas_metadata import without_types
from isthmus.data.tables.to_numbers import Series, as_numbers, is_empty, is_text, plain_numbers
from isthmus.data.tables.untyped import Frame, may_have_no_type, model_arrow_type, text_columns
from isthmus.types import Array, Index

if TYPE_CHECKING:
    import pyarrow as pa

LONG_BYTES = 1 << 25
"""The most bytes of a table that are read at once, because text may be long."""

TABLE_ROWS = 1024
"""Rows that are transposed from columns together: few enough for a processor's cache."""


class Records:
    """The record batches of a table on disk; one subclass per kind of file."""

    origin: str
    names: tuple[str, ...]
    """All columns of the table, in order."""

    bounds: Index
    """(groups + 1,): the first row of each group, and the number of all rows."""

    row_bytes: float = 8.0
    """About how many bytes a row takes when it is read."""

    def empty(self) -> "pa.Table":
        """A pyarrow Table without rows, whose columns have their types."""
        raise NotImplementedError

    def batches(self, group: int, names: Sequence[str], rows: int) -> Iterator["pa.Table"]:
        """The pyarrow Tables of one group, `rows` rows each except the last."""
        raise NotImplementedError

    def with_pandas_metadata(self, table: "pa.Table") -> "pa.Table":
        """A Table of some columns with pandas' metadata about their dtypes, if there is any."""
        return table

    def as_text(self, names: Sequence[str]) -> "Records":
        """The same, with the cells of some columns as text if the file is text."""
        del names
        return self


class _TypedRecords(Records):
    """A table in which columns without any value have the types given."""

    def __init__(self, records: Records, types: Mapping[str, "pa.DataType"]) -> None:
        self.records, self.types = records, types
        self.origin, self.names = records.origin, records.names
        self.bounds, self.row_bytes = records.bounds, records.row_bytes

    def empty(self) -> "pa.Table":
        """A pyarrow Table without rows."""
        return self._typed(self.records.empty())

    def batches(self, group: int, names: Sequence[str], rows: int) -> Iterator["pa.Table"]:
        """The pyarrow Tables of one group."""
        return map(self._typed, self.records.batches(group, names, rows))

    def with_pandas_metadata(self, table: "pa.Table") -> "pa.Table":
        """A Table of some columns with pandas' metadata about the columns that have values."""
        return without_types(self.records.with_pandas_metadata(table), list(self.types))

    def _typed(self, table: "pa.Table") -> "pa.Table":
        import pyarrow as pa

        for index, name in enumerate(table.column_names):
            if name in self.types:
                table = table.set_column(index, name, pa.nulls(len(table), self.types[name]))
        return table


def typed_records(records: Records, names: Sequence[str], schema: Schema) -> Records:
    """The table, in which columns without any value have the types that they have in `schema`."""
    table = records.empty()
    types = {
        name: model_arrow_type(schema, index)
        for index, name in enumerate(names)
        if may_have_no_type(table.schema.field(name).type, schema, index)
    }
    unsure = [name for name in types if str(table.schema.field(name).type) != "null"]
    for name in _columns_with_values(records, unsure):
        del types[name]
    return _TypedRecords(records, types) if types else records


def _columns_with_values(records: Records, names: Sequence[str]) -> set[str]:
    """Those of some columns that have any value; one batch is usually enough to find out."""
    with_values, left = set[str](), list(names)
    for group in range(len(records.bounds) - 1):
        for batch in records.batches(group, left, BATCH_ROWS) if left else ():
            frame = nw.from_native(batch, eager_only=True)
            with_values |= {name for name in left if not is_empty(frame.get_column(name))}
        left = [name for name in left if name not in with_values]
    return with_values


class StreamedTable(ChunkedSource):
    """Rows of a table on disk, with the same schema as if it were in memory."""

    def __init__(
        self,
        records: Records,
        schema: Schema,
        inferred: InferredTable,
        *,
        features: Sequence[str] | None = None,
        remarks: Sequence[str] = (),
        unknown_values: Sequence[str] = (),
        table_columns: Sequence[str] = (),
    ) -> None:
        self.records, self.inferred = records, inferred
        self.features = tuple(features or schema.names or records.names)
        """The columns that are features."""

        self.table_columns = {*table_columns, *(schema.given or ()), *self.features}
        """All columns of the table that were kept, whether or not they are features."""

        self.remarks, self.unknown_values = tuple(remarks), tuple(unknown_values)
        self.columns = schema.columns or (Column(),) * len(self.features)
        empty = records.empty()
        dtype = _common_dtype(_series(empty, self.features), self.columns, inferred)
        super().__init__(schema, records.origin, records.bounds, dtype)
        self.chunk_rows = max(1, min(self.chunk_rows, int(LONG_BYTES // records.row_bytes)))
        self._direct = {
            index
            for index, (name, column) in enumerate(zip(self.features, self.columns, strict=True))
            if _is_direct(empty.schema.field(name).type, column)
        }

    def read_as(self, schema: Schema) -> "StreamedTable":
        """The same rows with the columns of a fitted model's `schema`."""
        names = schema.names or self.features
        types = self.records.empty().schema
        texts = text_columns(schema, names, self.records.names)
        texts = [name for name in texts if not is_text(types.field(name).type)]
        return _table_with_schema(
            self.records.as_text(texts) if texts else self.records,
            names,
            schema,
            layout=self.schema.layout,
            named=self.schema.names is not None,
            table_columns=[name for name in self.records.names if name in self.table_columns],
            inferred=self.inferred if schema.columns is None else None,
        )

    def has_untyped_columns(self, schema: Schema) -> bool:
        """Whether a column has no value, and so not the type that it has in `schema`."""
        names = schema.names or self.features
        return typed_records(self.records, names, schema) is not self.records

    def frames(self) -> Generator[FrameSource]:
        """All rows in order, as tables of the kept columns in their own types."""
        names = [name for name in self.records.names if name in self.table_columns]
        first = 0
        for group in range(len(self.bounds) - 1):
            for batch in self.records.batches(group, names, self.chunk_rows):
                native = self.records.with_pandas_metadata(batch)
                table = cast("Frame", nw.from_native(native, eager_only=True))
                series = [table.get_column(name) for name in self.features]
                source = FrameSource(table, series, self.schema, origin=self.origin)
                source.first_row, source.is_piece = first, True
                yield source
                first += len(source)

    def _chunks(self, group: int) -> Iterator[Array]:
        row = int(self.bounds[group])
        for table in self.records.batches(group, self.features, self.chunk_rows):
            yield self._numbers(table, row)
            row += table.num_rows

    def _numbers(self, table: "pa.Table", row: int) -> Array:
        """(n, D): the columns of a pyarrow Table as numbers; its first row is number `row`."""
        rows = np.empty((table.num_rows, len(self.features)), self.dtype)
        numbers = [
            _direct_numbers(table.column(name))
            if index in self._direct
            else self._as_numbers(table, index, row)
            for index, name in enumerate(self.features)
        ]
        for start in range(0, len(rows), TABLE_ROWS):
            _transpose([values[start : start + TABLE_ROWS] for values in numbers], rows[start:])
        return rows

    def _as_numbers(self, table: "pa.Table", index: int, row: int) -> Array:
        (series,) = _series(table, [self.features[index]])
        return as_numbers(series, self.columns[index], self.origin, row)


def table_blocks(
    records: Records,
    names: Sequence[str],
    *,
    layout: Layout | None = None,
    named: bool = True,
    roles: Mapping[str, str] = NO_ROLES,
) -> StreamedTable:
    """A source over the columns `names` of a table on disk; its rules are those of frame_source."""
    origin = records.origin
    check_layout(layout, origin)
    given_roles, roles = roles, check_roles(roles, records.names, origin)
    inferred = infer_table(records, names, roles)
    for name, (column, _) in inferred.columns.items():
        if column is not None:
            check_declared(name, column, roles, given_roles, origin)
    results = inferred.columns.items()
    reasons = {name: result.reason for name, result in results if result.column is None}
    features = [name for name in names if name not in reasons]
    schema = schema_of(
        _series(records.empty(), features),
        records.with_pandas_metadata(records.empty()),
        "pyarrow",
        layout or "table",
        named=named,
        columns=unless_all_numeric([inferred.columns[name].column for name in features]),
        given=tuple(names) if reasons else None,
    )
    if not named:
        schema = replace(schema, names=None)
    remarks = tuple(left_out_remarks(reasons))
    return StreamedTable(records, schema, inferred, features=features, remarks=remarks)


def table_blocks_with_schema(
    records: Records, schema: Schema, table_columns: Sequence[str], *, layout: Layout | None = None
) -> StreamedTable:
    """A source over a table on disk with the columns of a fitted model's `schema`.

    `table_columns` are those that the model uses or left out.
    """
    check_layout(layout, records.origin)
    return _table_with_schema(
        records,
        schema.names or (),
        schema,
        layout=layout or "table",
        named=True,
        table_columns=table_columns,
    )


def _table_with_schema(
    records: Records,
    names: Sequence[str],
    schema: Schema,
    *,
    layout: Layout,
    named: bool,
    table_columns: Sequence[str],
    inferred: InferredTable | None = None,
) -> StreamedTable:
    """A source over the columns `names`, which are those of a fitted model's `schema`.

    `inferred` is what is known of them already if none has categories.
    """
    records = typed_records(records, names, schema)
    own = schema_of(
        _series(records.empty(), names),
        records.with_pandas_metadata(records.empty()),
        "pyarrow",
        layout,
        named=named,
        columns=schema.columns,
        given=schema.given,
    )
    columns = zip(names, schema.columns or (), strict=False)
    with_categories = {name: column for name, column in columns if column.has_categories}
    if inferred is None:
        roles = {name: column.role for name, column in with_categories.items()}
        inferred = infer_table(records, names, roles)
    return StreamedTable(
        records,
        own,
        inferred,
        unknown_values=inferred.unknown_values(with_categories, records.origin),
        table_columns=table_columns,
    )


def _is_direct(kind: "pa.DataType", column: Column) -> bool:
    """Whether Arrow's own values are the column's numbers."""
    import pyarrow as pa

    floats = pa.types.is_float32(kind) or pa.types.is_float64(kind)
    return column.role == "numeric" and (floats or pa.types.is_integer(kind))


def _direct_numbers(column: "pa.ChunkedArray") -> Array:
    """The values of a pyarrow column of numbers, NaN where one is missing."""
    if column.num_chunks == 1:
        return np.asarray(column.chunk(0).to_numpy(zero_copy_only=False))
    return np.asarray(column.to_numpy())


def _transpose(columns: Sequence[Array], rows: Array) -> None:
    """Write columns into the first of `rows`."""
    if rows.dtype.kind == "f" and all(values.dtype == rows.dtype for values in columns):
        # torch transposes a matrix in blocks that fit into a processor's registers.
        transposed = torch.from_numpy(np.concatenate(columns)).view(len(columns), -1).t()
        torch.from_numpy(rows)[: len(transposed)].copy_(transposed)
        return
    for index, values in enumerate(columns):
        rows[: len(values), index] = values


def _series(table: "pa.Table", names: Sequence[str]) -> list[Series]:
    frame = nw.from_native(table, eager_only=True)
    return [frame.get_column(name) for name in names]


def _common_dtype(
    series: Sequence[Series], columns: Sequence[Column], inferred: InferredTable
) -> np.dtype[Any]:
    """The dtype common to all columns, the same as for a table in memory."""
    dtypes = [_dtype(s, column, inferred) for s, column in zip(series, columns, strict=True)]
    return np.result_type(*dtypes).newbyteorder("=") if dtypes else np.dtype(np.float64)


def _dtype(series: Series, column: Column, inferred: InferredTable) -> np.dtype[Any]:
    if column.has_categories or column.role == "datetime":
        return np.dtype(np.float64)
    numbers = plain_numbers(series)
    if numbers is None:
        return np.dtype(np.float64)
    is_whole = numbers.dtype.kind in "biu"
    has_missing = is_whole and inferred.has_missing.get(str(series.name), False)
    return np.dtype(np.float64) if has_missing else numbers.dtype
