"""Rows of a pandas, polars or pyarrow table whose columns are numbers or booleans."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Number
from typing import Any, NoReturn, cast

import narwhals as nw
import numpy as np

from isthmus.data.arrays import IN_MEMORY, fault
from isthmus.data.schema import FRAMES, Container, Layout, Schema
from isthmus.errors import RequestError
from isthmus.types import Array, Index, Source

Frame = nw.DataFrame[Any]
Series = nw.Series[Any]
SHOWN = 20


class FrameSource:
    """Rows of columns that may differ in dtype; a row is read in the dtype common to all.

    Gaps are NaN. Integers beyond 2**53 are exact only while every column is an integer.
    """

    def __init__(
        self, columns: Sequence[Array], schema: Schema, *, rows: int, origin: str = IN_MEMORY
    ) -> None:
        self.columns = tuple(columns)
        self.schema = schema
        self.origin = origin
        common = np.result_type(*self.columns) if self.columns else np.dtype(np.float64)
        self.dtype = common.newbyteorder("=")
        self._rows = rows

    def __len__(self) -> int:
        """How many rows there are."""
        return self._rows

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), D)."""
        chosen = np.empty((len(rows), len(self.columns)), self.dtype)
        for position, column in enumerate(self.columns):
            chosen[:, position] = column[rows]
        return chosen


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
        labels=some(schema.labels),
    )


def frame_source(
    frame: Any,
    *,
    origin: str = IN_MEMORY,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    layout: Layout | None = None,
    named: bool = True,
) -> FrameSource:
    """A source over the number and boolean columns of a pandas, polars or pyarrow table.

    `columns` keeps and `drop` leaves out columns by name. `layout="signal"` reads each row as one
    signal along the columns. `named=False` is for a table that came without a header. A column that
    is not numbers raises DataError naming it, the first bad value and its row.
    """
    if layout not in (None, "table", "signal"):
        raise RequestError(f"{origin}: a table cannot be read with layout={layout!r}; leave it out")
    table = _narwhals(frame, origin)
    known = {str(series.name): series for series in table.iter_columns()}
    kept = [known[name] for name in pick(list(known), columns, drop, origin)]
    values = [_numbers(series, origin) for series in kept]
    schema = _schema(table, kept, layout or "table", named=named)
    return FrameSource(values, schema, rows=len(table), origin=origin)


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


def listed(names: Iterable[str]) -> str:
    """The names, quoted and joined, cut short after twenty."""
    quoted = [repr(name) for name in names]
    more = f" and {len(quoted) - SHOWN} more" if len(quoted) > SHOWN else ""
    return ", ".join(quoted[:SHOWN]) + more


def _numbers(series: Series, origin: str) -> Array:
    # The dtype follows from the whole column, so that every block of rows is read in the same one.
    if series.dtype == nw.Boolean or series.dtype.is_numeric():
        exact = series.dtype.is_float() or not series.null_count()
        if exact and not series.dtype.is_decimal() and series.dtype not in (nw.Int128, nw.UInt128):
            return series.to_numpy()
        if series.dtype.is_integer() and series.implementation.is_pyarrow():
            # pyarrow would refuse to cast what is beyond 2**53, but not to hand it over.
            return np.asarray(series.to_native().to_numpy(), np.float64)
        return series.cast(nw.Float64).to_numpy()
    if series.dtype in (nw.Object, nw.Unknown):
        return _objects(series, origin)
    return _refuse(series, origin)


def _objects(series: Series, origin: str) -> Array:
    values = series.to_numpy()
    if values.dtype.kind in "biuf":
        return values
    gaps = np.asarray(series.is_null().to_numpy(), bool)
    present = values[~gaps]
    if not all(isinstance(value, (Number, np.bool_)) for value in present):
        _refuse(series, origin)
    numbers = np.full(len(values), np.nan)
    numbers[~gaps] = present.astype(np.float64)
    return numbers


def _refuse(series: Series, origin: str) -> NoReturn:
    text = series.dtype in (nw.String, nw.Object, nw.Unknown)
    kind = "text" if series.dtype == nw.String else f"{series.dtype} values"
    row, value = _first_bad(series.to_list(), text=text)
    name = str(series.name)
    raise fault(
        origin,
        f"column {name!r} is {kind}, not numbers (first bad value {value!r} at row "
        f"{row}, counting from 0); make it numbers, or leave it out with drop=[{name!r}] "
        f"(command line: --drop {name})",
    )


def _first_bad(values: Sequence[Any], *, text: bool) -> tuple[int, Any]:
    present = [(row, value) for row, value in enumerate(values) if value is not None]
    bad = (found for found in present if not (text and _is_number(found[1])))
    return next(bad, present[0] if present else (0, None))


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _schema(table: Frame, kept: Sequence[Series], layout: Layout, *, named: bool) -> Schema:
    container = cast("Container", table.implementation.value)
    labels: tuple[Any, ...] = tuple(series.name for series in kept)
    plain = all(isinstance(label, str) for label in labels)
    default = not plain and labels == tuple(range(len(labels)))
    return Schema(
        layout=layout,
        shape=(len(kept),),
        dtypes=tuple(_dtype_name(series) for series in kept),
        container=container,
        names=tuple(map(str, labels)) if named and not default else None,
        natives=_natives(kept) if container == "pandas" else None,
        labels=None if plain or default else tuple(_plain(label) for label in labels),
    )


def _dtype_name(series: Series) -> str:
    return "Float64" if series.dtype == nw.Unknown else str(series.dtype)


def _natives(kept: Sequence[Series]) -> tuple[str, ...] | None:
    names = tuple(re.sub(r"^(Sparse\[\w+),.*", r"\1]", str(s.to_native().dtype)) for s in kept)
    numpy_names = tuple(str(s.dtype).lower().replace("boolean", "bool") for s in kept)
    return None if names == numpy_names else names


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label
