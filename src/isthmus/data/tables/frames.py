"""Rows of a pandas, polars or pyarrow table, each column as one number."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

import narwhals as nw
import numpy as np

from isthmus.data.arrays import IN_MEMORY, fault
from isthmus.data.columns import Column, check_roles, listed, unknown
from isthmus.data.schema import FRAMES, Container, Layout, Schema
from isthmus.data.tables.datetimes import moment_of
from isthmus.data.tables.infer import check_declared, left_out_in_words, recognise
from isthmus.data.tables.pandas_metadata import numpy_types
from isthmus.data.tables.to_numbers import arrow_of, as_numbers, plain_numbers
from isthmus.data.tables.untyped import lacks_type, text_columns, with_types
from isthmus.errors import RequestError
from isthmus.types import Array, Index, Source

Frame = nw.DataFrame[Any]
Series = nw.Series[Any]
SHOWN_LEVELS = 5
NOTHING: Mapping[str, str] = MappingProxyType({})


class FrameSource:
    """Rows of columns that may differ in dtype; a row is read in the dtype common to all.

    Gaps are NaN. Integers beyond 2**53 are exact only while every column is an integer.
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
        """All columns that were given, as they were."""

        self.series = tuple(series)
        self.left_out = tuple(left_out)
        """Columns that identify rows here, and may be something else to a model."""

        self.schema = schema
        self.origin = origin
        self.remarks = tuple(remarks)
        """What is worth knowing of how the rows were understood."""

        self.read_text: Callable[[Sequence[str]], Any] | None = None
        """What reads columns of a file of text once more, as they are written."""

        self.is_piece = False
        """Whether these are some rows of a table, the whole of which tells the types."""

        self.first_row = 0
        """What to add to a row's number in a message."""

        self.strange: tuple[str, ...] = ()
        """What is worth knowing of values that are none of a model's levels."""

        columns = schema.columns or (Column(),) * len(self.series)
        self.columns = tuple(
            as_numbers(one, column, origin)
            for one, column in zip(self.series, columns, strict=True)
        )
        common = np.result_type(*self.columns) if self.columns else np.dtype(np.float64)
        self.dtype = common.newbyteorder("=")

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.table)

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), D)."""
        chosen = np.empty((len(rows), len(self.columns)), self.dtype)
        for position, column in enumerate(self.columns):
            chosen[:, position] = column[rows]
        return chosen

    def read_as(self, schema: Schema) -> "FrameSource":
        """The same rows, their columns picked and coded as those of `schema` are.

        Values that are no level of a column of `schema` are missing, which `strange` tells.
        """
        known = self._known()
        picked = self.series if schema.names is None else [known[name] for name in schema.names]
        table, known = self._with_text(schema, [str(series.name) for series in picked])
        picked = [known[str(series.name)] for series in picked]
        picked, table, dtypes = with_types(table, picked, schema)
        own = schema_of(
            picked,
            table.to_native(),
            self.schema.container,
            self.schema.layout,
            named=self.schema.names is not None,
            columns=schema.columns,
            given=schema.given,
        )
        restored = (dtypes.get(at, dtype) for at, dtype in enumerate(own.dtypes))
        own = replace(own, dtypes=tuple(restored))
        found = FrameSource(table, picked, own, origin=self.origin)
        found.strange = tuple(found._unseen())
        return found

    def _known(self) -> dict[str, Series]:
        return {str(series.name): series for series in (*self.series, *self.left_out)}

    def _with_text(self, schema: Schema, names: Sequence[str]) -> tuple[Frame, dict[str, Series]]:
        """The table and its columns, those that are names to a model as they are written."""
        table, known = self.table, self._known()
        texts = text_columns(schema, names, list(known))
        texts = [name for name in texts if known[name].dtype != nw.String]
        if self.read_text is not None and texts:
            fresh = nw.from_native(self.read_text(texts), eager_only=True)
            table = table.with_columns(*fresh.iter_columns())
            known |= {str(series.name): series for series in fresh.iter_columns()}
        return table, known

    def lacks_types(self, schema: Schema) -> bool:
        """Whether a column has no value, and so not the type that it has in `schema`."""
        if self.is_piece:
            return False
        known, names = self._known(), schema.names
        series = self.series if names is None else [known[name] for name in names]
        return any(lacks_type(one, schema, at) for at, one in enumerate(series))

    def missing(self, position: int) -> Array:
        """(n,) bool: where a column has no value; one that is none of its levels is a value."""
        series, numbers = self.series[position], self.columns[position]
        if self.schema.columns is not None and self.schema.columns[position].levelled:
            return np.asarray(series.is_null().to_numpy(), bool)
        return np.asarray(np.isnan(numbers))

    def _unseen(self) -> Iterable[str]:
        """One line for each column that has values which are none of its levels."""
        for series, column, numbers in zip(
            self.series, self.schema.columns or (), self.columns, strict=False
        ):
            strange = np.isnan(numbers) & ~series.is_null().to_numpy() if column.levelled else None
            if strange is not None and strange.any():
                at = np.flatnonzero(strange)
                values = list(dict.fromkeys(series[at[:1000].tolist()].to_list()))
                yield (
                    f"{self.origin}: column {str(series.name)!r}: {unknown(len(at))}: "
                    f"{listed(values[:SHOWN_LEVELS])}"
                )


def schema_of(
    kept: Sequence[Series],
    table: Any,
    container: Container,
    layout: Layout,
    *,
    named: bool,
    columns: tuple[Column, ...] | None,
    given: tuple[str, ...] | None = None,
) -> Schema:
    """The schema of these columns, of a table in this library; it may be one without its rows."""
    labels: tuple[Any, ...] = tuple(series.name for series in kept)
    plain = all(isinstance(label, str) for label in labels)
    default = not plain and labels == tuple(range(len(labels)))
    return Schema(
        layout=layout,
        shape=(len(kept),),
        dtypes=tuple(_dtype_name(series) for series in kept),
        container=container,
        names=tuple(map(str, labels)) if named and not default else None,
        natives=_natives(kept, container),
        numpy_types=numpy_types(table, labels) if container == "pyarrow" else None,
        labels=None if plain or default else tuple(_plain(label) for label in labels),
        columns=columns,
        given=given,
    )


class PickedSource:
    """Some columns of a table source, in a chosen order."""

    def __init__(self, source: Source, picked: Sequence[int]) -> None:
        self.source = source
        self.picked = np.asarray(picked, np.intp)
        self.schema = _picked_schema(source.schema, self.picked)
        self.origin = source.origin

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.source)

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), D)."""
        return self.source.read(rows)[:, self.picked]


def _picked_schema(schema: Schema, picked: Index) -> Schema:
    def some(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return values and tuple(values[index] for index in picked)

    return replace(
        schema,
        shape=(len(picked),),
        dtypes=schema.dtypes if len(schema.dtypes) == 1 else some(schema.dtypes) or (),
        names=some(schema.names),
        natives=some(schema.natives),
        numpy_types=some(schema.numpy_types),
        labels=some(schema.labels),
        columns=some(schema.columns),
    )


def frame_source(
    frame: Any,
    *,
    origin: str = IN_MEMORY,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    layout: Layout | None = None,
    named: bool = True,
    roles: Mapping[str, str] = NOTHING,
) -> FrameSource:
    """A source over the columns of a pandas, polars or pyarrow table.

    `columns` keeps and `drop` leaves out columns by name. `layout="signal"` reads each row as one
    signal along the columns. `named=False` is for a table that came without a header. `roles` says
    what columns mean, by name: one of `columns.ROLES`, or "identifier" for one to leave out; the
    others are recognised. A column of a type that nothing is known of raises DataError naming it.
    """
    if layout not in (None, "table", "signal"):
        raise RequestError(f"{origin}: a table cannot be read with layout={layout!r}; leave it out")
    table = _narwhals(frame, origin)
    known = {str(series.name): series for series in table.iter_columns()}
    kept = [known[name] for name in pick(list(known), columns, drop, origin)]
    given_roles, roles = roles, check_roles(roles, known, origin)
    found = {name: recognise(known[name], roles.get(name), origin) for name in map(_name, kept)}
    for name, (column, _) in found.items():
        if column is not None:
            check_declared(name, column, roles, given_roles, origin)
    reasons = {name: one.why for name, one in found.items() if one.column is None}
    given = [_name(series) for series in kept]
    left_out = [series for series in kept if _name(series) in reasons]
    kept = [series for series in kept if _name(series) not in reasons]
    schema = schema_of(
        kept,
        table.to_native(),
        cast("Container", table.implementation.value),
        layout or "table",
        named=named,
        columns=unless_plain([found[_name(series)].column for series in kept]),
        given=tuple(given) if reasons else None,
    )
    return FrameSource(
        table,
        kept,
        schema,
        origin=origin,
        remarks=left_out_in_words(reasons),
        left_out=left_out,
    )


def _name(series: Series) -> str:
    return str(series.name)


def unless_plain(columns: Sequence[Column | None]) -> tuple[Column, ...] | None:
    """The columns, or None where all are numbers or truths, as most tables' are."""
    known = tuple(column for column in columns if column is not None)
    plain = all(column.role in ("numeric", "boolean") for column in known)
    return None if plain else known


def _narwhals(frame: Any, origin: str) -> Frame:
    labels = frame.column_names if hasattr(frame, "column_names") else list(frame.columns)
    names = [str(label) for label in labels]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise fault(origin, f"several columns are named {listed(twice)}; give each its own name")
    odd = [label for label in labels if not isinstance(label, (str, int, float, np.number))]
    if odd:
        raise fault(
            origin,
            f"the column label {odd[0]!r} is neither text nor a number; "
            "name the columns with X.columns = X.columns.map(str)",
        )
    table = nw.from_native(frame, eager_only=True)
    if table.implementation.value not in FRAMES:
        raise fault(origin, f"{type(frame)} is not known; convert it to one of {', '.join(FRAMES)}")
    return cast("Frame", table)


def pick(
    known: Sequence[str], columns: Sequence[str] | None, drop: Sequence[str], origin: str
) -> list[str]:
    """The names of `columns` (default: all that are `known`) less those of `drop`."""
    kept = list(known) if columns is None else list(dict.fromkeys(columns))
    names, left_out = set(known), set(drop)
    for name in (*kept, *drop):
        if name not in names:
            raise RequestError(
                f"{origin}: there is no column {name!r}; the columns are {listed(known)}"
            )
    return [name for name in kept if name not in left_out]


def _dtype_name(series: Series) -> str:
    if series.dtype in (nw.Unknown, nw.Object):
        return _named_by_arrow(series)
    return "Enum" if series.dtype == nw.Enum else str(series.dtype)


def _named_by_arrow(series: Series) -> str:
    """For objects: what they are, where they are not numbers."""
    if plain_numbers(series) is not None:
        return "Float64" if series.dtype == nw.Unknown else "Object"
    import pyarrow as pa

    array = arrow_of(series)
    if array is None or moment_of(array.type) is None:
        return "Float64"
    kind = nw.from_native(pa.chunked_array([array.slice(0, 0)]), series_only=True).dtype
    return "Date" if kind == nw.Unknown else str(kind)


def _natives(kept: Sequence[Series], container: Container) -> tuple[str, ...] | None:
    if container == "pandas":
        names = tuple(re.sub(r"^(Sparse\[\w+),.*", r"\1]", str(s.to_native().dtype)) for s in kept)
        numpy_names = tuple(str(s.dtype).lower().replace("boolean", "bool") for s in kept)
        return None if names == numpy_names else names
    if container == "pyarrow" and not all(_is_plain(series) for series in kept):
        return tuple(str(series.to_native().type) for series in kept)
    return None


def _is_plain(series: Series) -> bool:
    return series.dtype == nw.Boolean or series.dtype.is_numeric()


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label
