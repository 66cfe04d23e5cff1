"""A table in a Parquet file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isthmus.data.formats.base import Format, Options, RowNames, damaged, ends_with
from isthmus.data.formats.values import as_table
from isthmus.data.frames import frame_source, pick
from isthmus.data.schema import Schema
from isthmus.types import Source


def read(path: Path, options: Options) -> Source:
    """The columns; an index that pandas stored beside them is left out."""
    with opened(path) as file:
        kept = pick(_known(file), options.columns, options.drop, str(path))
        table = file.read(columns=kept)
    return frame_source(
        table,
        origin=str(path),
        columns=kept,
        layout=options.layout,
        roles=dict(options.roles),
    )


def column_names(path: Path) -> list[str]:
    """The names of the columns, without the index that pandas stored."""
    with opened(path) as file:
        return _known(file)


def read_table(path: Path, names: Sequence[str]) -> Any:
    """The named columns as a pyarrow Table, of whatever types they are."""
    with opened(path) as file:
        return file.read(columns=list(names))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The pyarrow ParquetFile; what is wrong with it becomes one SourceError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with (
        damaged(path, "a Parquet file", pa.ArrowInvalid, OSError, ValueError),
        pq.ParquetFile(path) as file,
    ):
        yield file


def _known(file: Any) -> list[str]:
    index = _pandas_index(file.schema_arrow)
    return [name for name in file.schema_arrow.names if name not in index]


def _pandas_index(schema: Any) -> list[str]:
    described = (schema.pandas_metadata or {}).get("index_columns", [])
    return [name for name in described if isinstance(name, str)]


def write(path: Path, values: Any, schema: Schema, _names: RowNames) -> None:
    """Writes the columns with their names and dtypes."""
    import pyarrow.parquet as pq

    pq.write_table(as_table(path, values, schema), path)


PARQUET = Format(
    ends_with(".parquet", ".pq"), read, write, frozenset({"columns", "drop", "layout", "roles"})
)
