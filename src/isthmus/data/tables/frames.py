"""A source over the rows of a pandas, polars or pyarrow table."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import narwhals as nw
import numpy as np

from isthmus.data.arrays import IN_MEMORY, data_error
from isthmus.data.columns import Column, check_roles, describe_unknown, listed
from isthmus.data.schema import FRAMES, Container, Layout, Schema
from isthmus.data.source import Source, SourceView
from isthmus.data.tables.datetimes import time_type_of
from isthmus.data.tables.infer import (
    check_declared,
    infer_column,
    left_out_remarks,
    refuse_unparsable,
)
from isthmus.data.tables.pandas_metadata import numpy_types
from isthmus.data.tables.to_numbers import Series, arrow_of, as_numbers, plain_numbers
from isthmus.data.tables.untyped import Frame, has_no_type, text_columns, with_model_types
from isthmus.errors import RequestError, SourceError
from isthmus.types import Array, Index

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
SHOWN_CATEGORIES = 5
NO_ROLES: Mapping[str, str] = MappingProxyType({})


class FrameSource(Source):
    """Rows of a table in memory; they are read in the dtype common to all columns.

    Missing values are NaN. Integers beyond 2**53 are exact only if every column is an integer.
    """

    def __init__(
        self,
        table: Frame,
        series: Sequence[Series],
        schema: Schema,
        *,
        origin: str = IN_MEMORY,
        remarks: Iterable[str] = (),
        left_out: Iterable[Series] = (),
    ) -> None:
        self.table = table
        """All columns that were given, unchanged."""

        self.series = tuple(series)
        """The columns that are features."""

        self.left_out = tuple(left_out)
        """Columns that identify rows here, and may be features of a fitted model."""

        self.schema = schema
        self.origin = origin
        self.remarks = tuple(remarks)
        self.read_text: Callable[[Sequence[str]], pa.Table] | None = None
        """Reads columns of a text file again, with their cells as text."""

        self.is_piece = False
        """Whether these are some rows of a larger table, which decides about the types."""

        columns = schema.columns or (Column(),) * len(self.series)
        self.columns = tuple(
            as_numbers(values, column, origin)
            for values, column in zip(self.series, columns, strict=True)
        )
        common = np.result_type(*self.columns) if self.columns else np.dtype(np.float64)
        self.dtype = common.newbyteorder("=")

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.table)

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), D)."""
        values = np.empty((len(rows), len(self.columns)), self.dtype)
        for index, column in enumerate(self.columns):
            values[:, index] = column[rows]
        return values

    def read_as(self, schema: Schema) -> "FrameSource":
        """The same rows with the columns of a fitted model's `schema`.

        Values that are not among a column's categories become missing; `unknown_values` reports
        them.
        """
        by_name = self._by_name()
        names = [str(s.name) for s in self.series] if schema.names is None else list(schema.names)
        table = self.table
        texts = text_columns(schema, names, list(by_name))
        texts = [name for name in texts if by_name[name].dtype != nw.String]
        if self.read_text is not None and texts:
            fresh = nw.from_native(self.read_text(texts), eager_only=True)
            table = table.with_columns(*fresh.iter_columns())
            by_name |= {str(series.name): series for series in fresh.iter_columns()}
        return _source_with_schema(
            table,
            [by_name[name] for name in names],
            schema,
            layout=self.schema.layout,
            named=self.schema.names is not None,
            origin=self.origin,
        )

    def _by_name(self) -> dict[str, Series]:
        return {str(series.name): series for series in (*self.series, *self.left_out)}

    def has_untyped_columns(self, schema: Schema) -> bool:
        """Whether a column has no value, and so not the type that it has in `schema`."""
        if self.is_piece:
            return False
        by_name, names = self._by_name(), schema.names
        series = self.series if names is None else [by_name[name] for name in names]
        return any(has_no_type(values, schema, index) for index, values in enumerate(series))

    def missing(self, index: int) -> Array:
        """(n,) bool: which values of a column are missing; unknown categories are not."""
        series, numbers = self.series[index], self.columns[index]
        if self.schema.columns is not None and self.schema.columns[index].has_categories:
            return np.asarray(series.is_null().to_numpy(), bool)
        return np.asarray(np.isnan(numbers))

    def _describe_unknown(self) -> Iterable[str]:
        """One line per column with values that are not among its categories."""
        for series, column, numbers in zip(
            self.series, self.schema.columns or (), self.columns, strict=False
        ):
            if not column.has_categories:
                continue
            rows = np.flatnonzero(np.isnan(numbers) & ~series.is_null().to_numpy())
            if len(rows):
                values = list(dict.fromkeys(series[rows[:1000].tolist()].to_list()))
                yield (
                    f"{self.origin}: column {str(series.name)!r}: {describe_unknown(len(rows))}: "
                    f"{listed(values[:SHOWN_CATEGORIES])}"
                )


def _source_with_schema(
    table: Frame,
    series: Sequence[Series],
    schema: Schema,
    *,
    layout: Layout,
    named: bool,
    origin: str,
) -> FrameSource:
    """A source over `series`, the columns of a fitted model's `schema` in its order."""
    series, table, dtypes = with_model_types(table, series, schema)
    own = schema_of(
        series,
        table.to_native(),
        _container(table),
        layout,
        named=named,
        columns=schema.columns,
        given=schema.given,
    )
    restored = (dtypes.get(index, dtype) for index, dtype in enumerate(own.dtypes))
    source = FrameSource(table, series, replace(own, dtypes=tuple(restored)), origin=origin)
    source.unknown_values = tuple(source._describe_unknown())
    return source


def frame_with_schema(
    frame: object, schema: Schema, *, origin: str, layout: Layout | None = None
) -> FrameSource:
    """A source over a table read from a file, with the columns of a fitted model's `schema`.

    Nothing is inferred. Raises SourceError if a column of numbers or dates is text.
    """
    check_layout(layout, origin)
    table = _narwhals(frame, origin)
    series = [table.get_column(name) for name in schema.names or ()]
    for index, values in enumerate(series):
        has_text = schema.columns is not None and schema.columns[index].has_categories
        if values.dtype == nw.String and not has_text:
            refuse_unparsable(values, origin)
    return _source_with_schema(
        table, series, schema, layout=layout or "table", named=True, origin=origin
    )


def columns_of_model(names: Sequence[str], schema: Schema, origin: str) -> list[str]:
    """The columns of a file that a fitted model uses or left out, in the file's order.

    Raises SourceError if one that it uses is missing.
    """
    expected = schema.names or ()
    missing = [name for name in expected if name not in names]
    if missing:
        raise SourceError(
            f"{origin}: the columns are not those the model was fitted on: expected "
            f"{listed(expected)}; found {listed(names)}; missing {listed(missing)}"
        )
    wanted = {*expected, *schema.left_out}
    return [name for name in names if name in wanted]


def schema_of(
    series: Sequence[Series],
    table: object,
    container: Container,
    layout: Layout,
    *,
    named: bool,
    columns: tuple[Column, ...] | None,
    given: tuple[str, ...] | None = None,
) -> Schema:
    """The schema of columns of a table in its own library; it may be a table without its rows."""
    labels: tuple[Any, ...] = tuple(values.name for values in series)
    are_text = all(isinstance(label, str) for label in labels)
    default = not are_text and labels == tuple(range(len(labels)))
    return Schema(
        layout=layout,
        shape=(len(series),),
        dtypes=tuple(_dtype_name(values) for values in series),
        container=container,
        names=tuple(map(str, labels)) if named and not default else None,
        natives=_native_dtypes(series, container),
        numpy_types=numpy_types(table, labels) if container == "pyarrow" else None,
        labels=None if are_text or default else tuple(_python_label(label) for label in labels),
        columns=columns,
        given=given,
    )


class PickedSource(SourceView):
    """Some columns of a table source, in a chosen order."""

    def __init__(self, source: Source, picked: Sequence[int]) -> None:
        self.picked = np.asarray(picked, np.intp)
        super().__init__(source, _picked_schema(source.schema, self.picked))

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), D)."""
        return self.source.read(rows)[:, self.picked]


def _picked_schema(schema: Schema, picked: Index) -> Schema:
    def pick_from(values: tuple[T, ...] | None) -> tuple[T, ...] | None:
        return values and tuple(values[index] for index in picked)

    return replace(
        schema,
        shape=(len(picked),),
        dtypes=schema.dtypes if len(schema.dtypes) == 1 else pick_from(schema.dtypes) or (),
        names=pick_from(schema.names),
        natives=pick_from(schema.natives),
        numpy_types=pick_from(schema.numpy_types),
        labels=pick_from(schema.labels),
        columns=pick_from(schema.columns),
    )


def frame_source(
    frame: object,
    *,
    origin: str = IN_MEMORY,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    layout: Layout | None = None,
    named: bool = True,
    roles: Mapping[str, str] = NO_ROLES,
) -> FrameSource:
    """A source over the columns of a pandas, polars or pyarrow table.

    Parameters:
        frame: The table.
        origin: What messages call it.
        columns: The names of the columns to read; None: all.
        drop: The names of columns to leave out.
        layout: "signal" reads each row as one signal along the columns.
        named: False for a table from a file without a header.
        roles: The role of columns by name: one of `columns.ROLES`, or "identifier" for a column to
            leave out. The roles of other columns are inferred.

    Raises:
        DataError: A column has a type that is not supported.
        RequestError: A column or a role does not exist.

    Example:
        >>> import pandas as pd
        >>> from isthmus.data.tables.frames import frame_source
        >>> source = frame_source(pd.DataFrame({"size": [1.5, 2.0], "color": ["red", "blue"]}))
        >>> source.schema.columns[1].categories
        ('blue', 'red')
        >>> source.read([0, 1]).tolist()
        [[1.5, 1.0], [2.0, 0.0]]
    """
    check_layout(layout, origin)
    table = _narwhals(frame, origin)
    by_name = {str(series.name): series for series in table.iter_columns()}
    names = pick(list(by_name), columns, drop, origin)
    given_roles, roles = roles, check_roles(roles, by_name, origin)
    inferred = {name: infer_column(by_name[name], roles.get(name), origin) for name in names}
    for name, (column, _) in inferred.items():
        if column is not None:
            check_declared(name, column, roles, given_roles, origin)
    reasons = {name: result.reason for name, result in inferred.items() if result.column is None}
    features = [name for name in names if name not in reasons]
    schema = schema_of(
        [by_name[name] for name in features],
        table.to_native(),
        _container(table),
        layout or "table",
        named=named,
        columns=unless_all_numeric([inferred[name].column for name in features]),
        given=tuple(names) if reasons else None,
    )
    return FrameSource(
        table,
        [by_name[name] for name in features],
        schema,
        origin=origin,
        remarks=left_out_remarks(reasons),
        left_out=[by_name[name] for name in names if name in reasons],
    )


def check_layout(layout: Layout | None, origin: str) -> None:
    """Raise RequestError for a layout that a table cannot have."""
    if layout not in (None, "table", "signal"):
        raise RequestError(f"{origin}: a table cannot be read with layout={layout!r}; leave it out")


def _container(table: Frame) -> Container:
    return cast("Container", table.implementation.value)


def unless_all_numeric(columns: Sequence[Column | None]) -> tuple[Column, ...] | None:
    """The columns, or None if all are numbers or booleans, as in most tables."""
    present = tuple(column for column in columns if column is not None)
    numeric = all(column.role in ("numeric", "boolean") for column in present)
    return None if numeric else present


def _narwhals(frame: Any, origin: str) -> Frame:
    labels = frame.column_names if hasattr(frame, "column_names") else list(frame.columns)
    names = [str(label) for label in labels]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise data_error(
            origin, f"several columns are named {listed(twice)}; give each its own name"
        )
    for label in labels:
        if not isinstance(label, (str, int, float, np.number)):
            raise data_error(
                origin,
                f"the column label {label!r} is neither text nor a number; "
                "name the columns with X.columns = X.columns.map(str)",
            )
    table = nw.from_native(frame, eager_only=True)
    if table.implementation.value not in FRAMES:
        raise data_error(
            origin, f"{type(frame)} is not known; convert it to one of {', '.join(FRAMES)}"
        )
    return cast("Frame", table)


def pick(
    names: Sequence[str], columns: Sequence[str] | None, drop: Sequence[str], origin: str
) -> list[str]:
    """The names in `columns` (default: all `names`) without those in `drop`."""
    wanted = list(names) if columns is None else list(dict.fromkeys(columns))
    existing, dropped = set(names), set(drop)
    for name in (*wanted, *drop):
        if name not in existing:
            raise RequestError(
                f"{origin}: there is no column {name!r}; the columns are {listed(names)}"
            )
    return [name for name in wanted if name not in dropped]


def _dtype_name(series: Series) -> str:
    if series.dtype in (nw.Unknown, nw.Object):
        return _dtype_name_by_arrow(series)
    return "Enum" if series.dtype == nw.Enum else str(series.dtype)


def _dtype_name_by_arrow(series: Series) -> str:
    """The dtype name of a column of objects; Arrow tells which dates they are."""
    if plain_numbers(series) is not None:
        return "Float64" if series.dtype == nw.Unknown else "Object"
    import pyarrow as pa

    array = arrow_of(series)
    if array is None or time_type_of(array.type) is None:
        return "Float64"
    dtype = nw.from_native(pa.chunked_array([array.slice(0, 0)]), series_only=True).dtype
    return "Date" if dtype == nw.Unknown else str(dtype)


def _native_dtypes(series: Sequence[Series], container: Container) -> tuple[str, ...] | None:
    """The library's own names of the dtypes, if narwhals' names do not say everything."""
    if container == "pandas":
        dtypes = (str(values.to_native().dtype) for values in series)
        names = tuple(re.sub(r"^(Sparse\[\w+),.*", r"\1]", dtype) for dtype in dtypes)
        numpy_names = tuple(str(s.dtype).lower().replace("boolean", "bool") for s in series)
        return None if names == numpy_names else names
    numeric = (values.dtype == nw.Boolean or values.dtype.is_numeric() for values in series)
    if container == "pyarrow" and not all(numeric):
        return tuple(str(values.to_native().type) for values in series)
    return None


def _python_label(label: object) -> object:
    return label.item() if isinstance(label, np.generic) else label
