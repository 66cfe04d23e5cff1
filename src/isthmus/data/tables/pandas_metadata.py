"""What pandas writes of its dtypes into the schema of an Arrow table, to read them back by.

The form: https://pandas.pydata.org/docs/development/developer.html.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

from isthmus.data.schema import NUMPY_TYPE

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
"""The names of that form for Arrow types that it calls otherwise than Arrow does."""


def told_of(schema: Any) -> dict[str, Any] | None:
    """What pandas wrote into an Arrow schema, None where it did not, or not in its form."""
    try:
        told = schema.pandas_metadata
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    columns, index = told.get("columns"), told.get("index_columns")
    fits = isinstance(columns, list) and isinstance(index, list) and all(map(_is_column, columns))
    return told if fits else None


def _is_column(written: Any) -> bool:
    return isinstance(written, dict) and isinstance(written.get("field_name"), str | None)


def numpy_types(table: Any, names: Sequence[str]) -> tuple[str, ...] | None:
    """What pandas called the dtypes of these columns of a pyarrow Table, None where it tells none.

    "" stands for a dtype that is not told, or whose name pandas itself cannot read.
    """
    told = told_of(table.schema) or {"columns": []}
    known = {one.get("field_name"): str(one.get("numpy_type")) for one in told["columns"]}
    types = (known.get(name, "") for name in names)
    readable = tuple(one if NUMPY_TYPE.fullmatch(one) else "" for one in types)
    return readable if any(readable) else None


def with_numpy_types(table: Any, types: Sequence[str]) -> Any:
    """The pyarrow Table with what pandas calls the dtypes of its columns, where that is known."""
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
    told = {"index_columns": [], "column_indexes": [], "columns": columns}
    return _telling(table, told)


def without_types(table: Any, names: Collection[str]) -> Any:
    """The pyarrow Table, of which pandas is not told any more what these columns were."""
    told = told_of(table.schema)
    if told is None:
        return table
    told["columns"] = [one for one in told["columns"] if one.get("field_name") not in names]
    return _telling(table, told)


def _telling(table: Any, told: dict[str, Any]) -> Any:
    others = table.schema.metadata or {}
    return table.replace_schema_metadata({**others, b"pandas": json.dumps(told).encode()})


def _logical(column: Any) -> tuple[str, dict[str, Any] | None]:
    """What a column is to pandas apart from its dtype, and what else it says of it."""
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
