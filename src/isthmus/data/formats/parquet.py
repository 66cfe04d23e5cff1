"""A table in a Parquet file, or in a folder of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.formats.base import Format, Options, RowNames, ends_with
from isthmus.data.formats.values import as_table
from isthmus.data.frames import frame_source, pick
from isthmus.data.schema import Schema
from isthmus.data.streams.blocks import SMALL_BYTES
from isthmus.data.streams.parquet import ParquetRecords, opened, pandas_index
from isthmus.data.streams.tables import table_blocks
from isthmus.errors import RequestError, SourceError
from isthmus.types import Source

SUFFIXES = (".parquet", ".pq")


def read(path: Path, options: Options) -> Source:
    """The columns; an index that pandas stored beside them is left out."""
    return _source([path], path, options)


def read_folder(path: Path, options: Options) -> Source:
    """The rows of all Parquet files in a folder and below it, in the order of their paths."""
    return _source(files_of(path), path, options)


def _source(paths: Sequence[Path], path: Path, options: Options) -> Source:
    records = ParquetRecords(paths, str(path))
    kept = pick(records.names, options.columns, options.drop, str(path))
    size = records.bytes * len(kept) / max(len(records.names), 1)
    if options.stream or (options.stream is None and size > SMALL_BYTES):
        if not len(records.rows):
            raise SourceError(f"{path}: holds no rows; there is nothing to stream")
        source = table_blocks(records, kept, layout=options.layout, roles=dict(options.roles))
        source.open_at_once = records.open_at_once
        return source
    return frame_source(
        _whole(records, paths, kept),
        origin=str(path),
        columns=kept,
        layout=options.layout,
        roles=dict(options.roles),
    )


def _whole(records: ParquetRecords, paths: Sequence[Path], kept: Sequence[str]) -> Any:
    """The kept columns of all files as one pyarrow Table."""
    import pyarrow as pa

    tables = []
    for path in paths:
        with opened(path) as file:
            tables.append(file.read(columns=list(kept)))
    if len(tables) == 1:
        return records.described(tables[0])
    wanted = records.empty().select(list(kept)).schema
    whole = pa.concat_tables([table.select(list(kept)).cast(wanted) for table in tables])
    return records.described(whole)


def files_of(folder: Path) -> list[Path]:
    """The Parquet files in a folder and below it, in the order of their paths."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in found if path.is_file() and not path.name.startswith((".", "_")))


def is_folder(path: Path) -> bool:
    """Whether a path is a folder that holds Parquet files."""
    return path.is_dir() and bool(files_of(path))


def column_names(path: Path) -> list[str]:
    """The names of the columns, without the index that pandas stored."""
    first = files_of(path)[0] if path.is_dir() else path
    with opened(first) as file:
        index = pandas_index(file.schema_arrow)
        return [name for name in file.schema_arrow.names if name not in index]


def read_table(path: Path, names: Sequence[str]) -> Any:
    """The named columns as a pyarrow Table, of whatever types they are."""
    import pyarrow as pa

    def tables() -> Iterator[Any]:
        for one in files_of(path) if path.is_dir() else [path]:
            with opened(one) as file:
                yield file.read(columns=list(names))

    return pa.concat_tables(tables(), promote_options="permissive")


def write(path: Path, values: Any, schema: Schema, _names: RowNames) -> None:
    """Writes the columns with their names and dtypes."""
    import pyarrow.parquet as pq

    pq.write_table(as_table(path, values, schema), path)


def _no_folder(path: Path, values: Any, schema: Schema, _names: RowNames) -> None:
    del values, schema
    raise RequestError(f"{path}: is a folder of Parquet files, which is not replaced; name a file")


UNDERSTANDS = frozenset({"columns", "drop", "layout", "roles", "stream"})
PARQUET = Format(ends_with(*SUFFIXES), read, write, UNDERSTANDS)
PARQUET_FOLDER = Format(is_folder, read_folder, _no_folder, UNDERSTANDS, folder=True)
