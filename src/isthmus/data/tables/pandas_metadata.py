"""Reads and writes pandas' metadata on its dtypes in the schema of an Arrow table.

The form: https://pandas.pydata.org/docs/development/developer.html.
"""

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from isthmus.data.schema import NUMPY_TYPE

if TYPE_CHECKING:
    import pyarrow as pa

LOGICAL = {
    "halffloat": "float16",
    "float": "float32",
    "double": "float64",
    "string": "unicode",
    "large_string": "unicode",
    "date32[day]": "date",
    "date64[ms]": "date",
    "null": "empty",
}
"""pandas' names for Arrow types, if they differ from Arrow's."""


def pandas_metadata_of(schema: "pa.Schema") -> dict[str, Any] | None:
    """Pandas' metadata in an Arrow schema; None if it is missing or has another form."""
    try:
        metadata = schema.pandas_metadata
    except ValueError:
        return None
    if not isinstance(metadata, dict):
        return None
    columns, index = metadata.get("columns"), metadata.get("index_columns")
    fits = isinstance(columns, list) and isinstance(index, list) and all(map(_is_column, columns))
    return metadata if fits else None


def _is_column(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("field_name"), str | None)


def numpy_types(table: "pa.Table", names: Sequence[str]) -> tuple[str, ...] | None:
    """Pandas' names for the dtypes of these columns of a pyarrow Table; None if it has none.

    "" stands for a dtype without a name, or with one that pandas itself cannot read.
    """
    metadata = pandas_metadata_of(table.schema) or {"columns": []}
    names_of_types = {c.get("field_name"): str(c.get("numpy_type")) for c in metadata["columns"]}
    types = (names_of_types.get(name, "") for name in names)
    readable = tuple(name if NUMPY_TYPE.fullmatch(name) else "" for name in types)
    return readable if any(readable) else None


def with_numpy_types(table: "pa.Table", types: Sequence[str]) -> "pa.Table":
    """The pyarrow Table with pandas' names for the dtypes of its columns; "" for none."""
    columns = []
    for name, column, numpy_type in zip(table.column_names, table.columns, types, strict=True):
        if numpy_type:
            pandas_type, details = _logical(column)
            columns.append(
                {
                    "name": name,
                    "field_name": name,
                    "pandas_type": pandas_type,
                    "numpy_type": numpy_type,
                    "metadata": details,
                }
            )
    return _with_metadata(table, {"index_columns": [], "column_indexes": [], "columns": columns})


def without_types(table: "pa.Table", names: Collection[str]) -> "pa.Table":
    """The pyarrow Table without pandas' metadata about these columns."""
    metadata = pandas_metadata_of(table.schema)
    if metadata is None:
        return table
    columns = [column for column in metadata["columns"] if column.get("field_name") not in names]
    return _with_metadata(table, metadata | {"columns": columns})


def _with_metadata(table: "pa.Table", metadata: dict[str, Any]) -> "pa.Table":
    others = table.schema.metadata or {}
    return table.replace_schema_metadata({**others, b"pandas": json.dumps(metadata).encode()})


def _logical(column: "pa.ChunkedArray") -> tuple[str, dict[str, object] | None]:
    """Pandas' logical type of a column, and its details."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        size = max((len(chunk.dictionary) for chunk in column.chunks), default=0)
        return "categorical", {"num_categories": size, "ordered": kind.ordered}
    if pa.types.is_decimal(kind):
        return "decimal", {"precision": kind.precision, "scale": kind.scale}
    if pa.types.is_timestamp(kind):
        return ("datetimetz", {"timezone": kind.tz}) if kind.tz else ("datetime", None)
    plain = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    return LOGICAL.get(str(kind), str(kind) if plain else "object"), None
