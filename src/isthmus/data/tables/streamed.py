"""Tables on disk, decoded a record batch at a time as a table in memory would be."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import narwhals as nw
import numpy as np
import torch

from isthmus.data.columns import Column, check_roles
from isthmus.data.on_disk import Blocks
from isthmus.data.schema import Layout, Schema
from isthmus.data.tables.frames import NOTHING, Frame, FrameSource, Series, schema_of, unless_plain
from isthmus.data.tables.infer import check_declared, left_out_in_words
from isthmus.data.tables.infer_streamed import BATCH_ROWS, Findings, survey
from isthmus.data.tables.pandas_metadata import without_types
from isthmus.data.tables.to_numbers import as_numbers, is_empty, is_text, plain_numbers
from isthmus.data.tables.untyped import known_type, may_lack_type, text_columns
from isthmus.errors import RequestError
from isthmus.types import Array, Index

LONG_BYTES = 1 << 25
"""Text may be long: no more of a table is read at once."""

TABLE_ROWS = 1024
"""Rows that are turned from columns into rows together: few enough for a processor's cache."""


class Records:
    """Where the record batches of a table come from; one for each kind of file."""

    origin: str
    names: tuple[str, ...]
    """All columns of the table, in order."""

    bounds: Index
    """(groups + 1,): the first row of each group, and the number of all rows."""

    row_bytes: float = 8.0
    """What a row takes, about, as it is read."""

    def empty(self) -> Any:
        """A pyarrow Table without rows, whose columns have their types."""
        raise NotImplementedError

    def batches(self, group: int, names: Sequence[str], rows: int) -> Iterator[Any]:
        """The pyarrow Tables of one group, `rows` rows each but the last."""
        raise NotImplementedError

    def described(self, table: Any) -> Any:
        """A Table of some of the columns with what else is known of their dtypes."""
        return table

    def as_text(self, names: Sequence[str]) -> "Records":
        """The same, with the cells of some columns as they are written, where they are text."""
        del names
        return self


class _Typed(Records):
    """A table in which columns without any value have these types."""

    def __init__(self, records: Records, types: Mapping[str, Any]) -> None:
        self.records, self.types = records, types
        self.origin, self.names = records.origin, records.names
        self.bounds, self.row_bytes = records.bounds, records.row_bytes

    def empty(self) -> Any:
        """A pyarrow Table without rows."""
        return self._typed(self.records.empty())

    def batches(self, group: int, names: Sequence[str], rows: int) -> Iterator[Any]:
        """The pyarrow Tables of one group."""
        return map(self._typed, self.records.batches(group, names, rows))

    def described(self, table: Any) -> Any:
        """A Table of some of the columns with what else is known of their dtypes."""
        return without_types(self.records.described(table), self.types)

    def _typed(self, table: Any) -> Any:
        import pyarrow as pa

        for at, name in enumerate(table.column_names):
            if name in self.types:
                table = table.set_column(at, name, pa.nulls(len(table), self.types[name]))
        return table


def with_types(records: Records, names: Sequence[str], schema: Schema) -> Records:
    """The table, in which columns without any value have the types that they have in `schema`."""
    table = records.empty()
    vague = {
        name: known_type(schema, at)
        for at, name in enumerate(names)
        if may_lack_type(table.schema.field(name).type, schema, at)
    }
    unsure = [name for name in vague if str(table.schema.field(name).type) != "null"]
    with_values = _with_values(records, unsure)
    vague = {name: kind for name, kind in vague.items() if name not in with_values}
    return _Typed(records, vague) if vague else records


def _with_values(records: Records, names: Sequence[str]) -> set[str]:
    """Which of some columns have any value; it seldom takes more than one batch to tell."""
    found, left = set[str](), list(names)
    for group in range(len(records.bounds) - 1):
        for batch in records.batches(group, left, BATCH_ROWS) if left else ():
            frame = nw.from_native(batch, eager_only=True)
            found |= {name for name in left if not is_empty(frame.get_column(name))}
        left = [name for name in left if name not in found]
    return found


class TableBlocks(Blocks):
    """Rows of a table on disk; what they mean is as it is for a table in memory."""

    def __init__(
        self,
        records: Records,
        schema: Schema,
        findings: Findings,
        *,
        remarks: Sequence[str] = (),
        strange: Sequence[str] = (),
        kept: Sequence[str] = (),
    ) -> None:
        self.records, self.findings = records, findings
        self.kept = {*kept, *(schema.given or ()), *(schema.names or records.names)}
        """All columns that are of the table, be they read or not."""

        self.remarks, self.strange = tuple(remarks), tuple(strange)
        self.picked = schema.names or records.names
        columns = schema.columns or (Column(),) * len(self.picked)
        self.columns = columns
        dtype = _dtype(_series(records.empty(), self.picked), columns, findings)
        super().__init__(schema, records.origin, records.bounds, dtype)
        self.step = max(1, min(self.step, int(LONG_BYTES // records.row_bytes)))
        self._plain = {
            at
            for at, (name, column) in enumerate(zip(self.picked, columns, strict=True))
            if _is_plain(records.empty().schema.field(name).type, column)
        }

    def read_as(self, schema: Schema) -> "TableBlocks":
        """The same rows, their columns picked and coded as those of `schema` are."""
        names = schema.names or self.picked
        kinds = self.records.empty().schema
        text = text_columns(schema, names, self.records.names)
        text = [name for name in text if not is_text(kinds.field(name).type)]
        records = with_types(self.records.as_text(text) if text else self.records, names, schema)
        series = _series(records.empty(), names)
        own = schema_of(
            series,
            records.described(records.empty()),
            self.schema.container,
            self.schema.layout,
            named=self.schema.names is not None,
            columns=schema.columns,
            given=schema.given,
        )
        findings, strange = self.findings, list[str]()
        if schema.columns is not None:
            levelled = {n: c for n, c in zip(names, schema.columns, strict=True) if c.levelled}
            findings = survey(records, names, {n: c.role for n, c in levelled.items()})
            strange = findings.strange(levelled, self.origin)
        kept = [name for name in self.records.names if name in self.kept]
        return TableBlocks(records, own, findings, strange=strange, kept=kept)

    def lacks_types(self, schema: Schema) -> bool:
        """Whether a column has no value, and so not the type that it has in `schema`."""
        names = schema.names or self.picked
        return with_types(self.records, names, schema) is not self.records

    def frames(self) -> Generator[FrameSource]:
        """All rows in order, in tables that have every column that was kept, as it is on disk."""
        names = [name for name in self.records.names if name in self.kept]
        first = 0
        for group in range(len(self.bounds) - 1):
            for batch in self.records.batches(group, names, self.step):
                whole = self.records.described(batch)
                table = cast("Frame", nw.from_native(whole, eager_only=True))
                series = [table.get_column(name) for name in self.picked]
                found = FrameSource(table, series, self.schema, origin=self.origin)
                found.first_row, found.is_piece = first, True
                yield found
                first += len(found)

    def _chunks(self, group: int) -> Iterator[Array]:
        row = int(self.bounds[group])
        for table in self.records.batches(group, self.picked, self.step):
            yield self._numbers(table, row)
            row += table.num_rows

    def _numbers(self, table: Any, row: int) -> Array:
        """(n, D): the columns of a pyarrow Table as numbers; its first row is number `row`."""
        found = np.empty((table.num_rows, len(self.picked)), self.dtype)
        numbers = [
            _plain(table.column(name)) if at in self._plain else self._as_numbers(table, at, row)
            for at, name in enumerate(self.picked)
        ]
        for start in range(0, len(found), TABLE_ROWS):
            _turn([values[start : start + TABLE_ROWS] for values in numbers], found[start:])
        return found

    def _as_numbers(self, table: Any, at: int, row: int) -> Array:
        (series,) = _series(table, [self.picked[at]])
        return as_numbers(series, self.columns[at], self.origin, row)


def table_blocks(
    records: Records,
    kept: Sequence[str],
    *,
    layout: Layout | None = None,
    named: bool = True,
    roles: Mapping[str, str] = NOTHING,
) -> TableBlocks:
    """A source over the columns `kept` of a table on disk; the same rules as `frame_source`."""
    origin = records.origin
    if layout not in (None, "table", "signal"):
        raise RequestError(f"{origin}: a table cannot be read with layout={layout!r}; leave it out")
    given_roles, roles = roles, check_roles(roles, records.names, origin)
    findings = survey(records, kept, roles)
    found = findings.recognised
    for name, (column, _) in found.items():
        if column is not None:
            check_declared(name, column, roles, given_roles, origin)
    reasons = {name: one.why for name, one in found.items() if one.column is None}
    given = tuple(kept)
    kept = [name for name in kept if name not in reasons]
    schema = schema_of(
        _series(records.empty(), kept),
        records.described(records.empty()),
        "pyarrow",
        layout or "table",
        named=named,
        columns=unless_plain([found[name].column for name in kept]),
        given=given if reasons else None,
    )
    if not named:
        schema = replace(schema, names=None)
    remarks = tuple(left_out_in_words(reasons))
    source = TableBlocks(records, schema, findings, remarks=remarks)
    if not named:
        source.picked = tuple(kept)
    return source


def _is_plain(kind: Any, column: Column) -> bool:
    """Whether Arrow's own values are the numbers."""
    import pyarrow as pa

    floats = pa.types.is_float32(kind) or pa.types.is_float64(kind)
    return column.role == "numeric" and (floats or pa.types.is_integer(kind))


def _turn(columns: Sequence[Array], rows: Array) -> None:
    """Write columns of some rows into the first of `rows`."""
    if rows.dtype.kind == "f" and all(values.dtype == rows.dtype for values in columns):
        # torch turns a matrix over in blocks that a processor's registers hold.
        turned = torch.from_numpy(np.concatenate(columns)).view(len(columns), -1).t()
        torch.from_numpy(rows)[: len(turned)].copy_(turned)
        return
    for at, values in enumerate(columns):
        rows[: len(values), at] = values


def _plain(column: Any) -> Array:
    """The values of a pyarrow column of numbers, NaN where one is missing."""
    if column.num_chunks == 1:
        return np.asarray(column.chunk(0).to_numpy(zero_copy_only=False))
    return np.asarray(column.to_numpy())


def _series(table: Any, names: Sequence[str]) -> list[Series]:
    frame = nw.from_native(table, eager_only=True)
    return [frame.get_column(name) for name in names]


def _dtype(
    series: Sequence[Series], columns: Sequence[Column], findings: Findings
) -> np.dtype[Any]:
    """The dtype common to all columns, as it is where the whole of them is in memory."""
    kinds = [_kind(one, column, findings) for one, column in zip(series, columns, strict=True)]
    return np.result_type(*kinds).newbyteorder("=") if kinds else np.dtype(np.float64)


def _kind(series: Series, column: Column, findings: Findings) -> np.dtype[Any]:
    if column.levelled or column.role == "datetime":
        return np.dtype(np.float64)
    numbers = plain_numbers(series)
    if numbers is None:
        return np.dtype(np.float64)
    whole = numbers.dtype.kind in "biu"
    has_missing = whole and findings.has_missing.get(str(series.name), False)
    return np.dtype(np.float64) if has_missing else numbers.dtype
