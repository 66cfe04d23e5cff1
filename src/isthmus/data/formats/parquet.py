"""A table in a Parquet file, or in a folder of them."""

import json
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.columns import listed
from isthmus.data.formats.base import (
    Append,
    Format,
    Header,
    NewFile,
    Options,
    RowNames,
    damage_reported,
)
from isthmus.data.formats.values import append_tables, as_table
from isthmus.data.on_disk import MAX_OPEN_GROUPS, SMALL_BYTES, FileStamp
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.data.tables.frames import (
    FrameSource,
    columns_of_model,
    frame_source,
    frame_with_schema,
    pick,
)
from isthmus.data.tables.pandas_metadata import pandas_metadata_of
from isthmus.data.tables.streamed import (
    Records,
    StreamedTable,
    table_blocks,
    table_blocks_with_schema,
)
from isthmus.data.tables.unify_schemas import common_schema
from isthmus.errors import RequestError, SourceError

OPEN_BYTES = 1 << 27
"""The total memory of the row groups that are being read: 128 MiB."""

PAGE_BYTES = 1 << 20
"""The usual size of a page of a column; one page per column is in memory."""

BUFFER_BYTES = 1 << 16
"""How many bytes of a column are read from the file at once."""


class ParquetRecords(Records):
    """The record batches of one Parquet file, or of several with the same columns."""

    def __init__(self, paths: Sequence[Path], origin: str) -> None:
        self.origin = origin
        self.stamps = [FileStamp.of(path) for path in paths]
        self.rows: list[int] = []
        self.places: list[tuple[int, int]] = []
        """(file, row group) of each group."""

        self.bytes, self.largest = 0, 0
        self._metadata: dict[int, Any] = {}
        schemas = []
        for number, stamp in enumerate(self.stamps):
            with opened(stamp.path) as file:
                schemas.append((stamp.path, file.schema_arrow))
                self._learn(number, file.metadata)
        self.schema, self.first = common_schema(schemas), schemas[0][1]
        _check_names(self.origin, self.schema.names)
        index = pandas_index(self.first)
        self.names = tuple(name for name in self.schema.names if name not in index)
        self.row_bytes = max(self.bytes / max(sum(self.rows), 1), 1.0)
        self.bounds = np.concatenate([[0], np.cumsum(self.rows)]).astype(np.intp)

    def _learn(self, number: int, metadata: Any) -> None:
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            self.largest = max(self.largest, row_group.total_byte_size)
            if row_group.num_rows:
                self.bytes += max(
                    row_group.total_byte_size, row_group.num_rows * 8 * metadata.num_columns
                )
                self.rows.append(row_group.num_rows)
                self.places.append((number, group))

    @property
    def open_at_once(self) -> int:
        """How many groups that are read in pieces fit in memory at the same time."""
        each = min(len(self.names) * (PAGE_BYTES + BUFFER_BYTES), max(self.largest, 1))
        return int(np.clip(OPEN_BYTES // each, 1, MAX_OPEN_GROUPS))

    def empty(self) -> Any:
        """A Table without rows."""
        return self.schema.empty_table().replace_schema_metadata(None)

    def with_pandas_metadata(self, table: Any) -> Any:
        """A Table of some columns with the dtypes that they had in pandas."""
        return with_pandas_metadata(table, self.first)

    def batches(self, group: int, names: Sequence[str], rows: int) -> Iterator[Any]:
        """The Tables of one group, `rows` rows each but the last."""
        import pyarrow as pa

        number, inside = self.places[group]
        stamp, wanted = self.stamps[number], self.empty().select(list(names)).schema
        stamp.check()
        with opened(stamp.path, stamp, self._metadata.get(number)) as file:
            if number not in self._metadata:
                self._metadata = {number: file.metadata}
            waiting: list[Any] = []
            batches = file.iter_batches(rows, row_groups=[inside], columns=list(names))
            for batch in batches:
                waiting.append(batch)
                while sum(map(len, waiting)) >= rows:
                    table = pa.Table.from_batches(waiting).select(list(names)).cast(wanted)
                    waiting = table.slice(rows).to_batches()
                    yield table.slice(0, rows)
            if sum(map(len, waiting)):
                yield pa.Table.from_batches(waiting).select(list(names)).cast(wanted)


@contextmanager
def opened(path: Path, stamp: FileStamp | None = None, metadata: Any = None) -> Iterator[Any]:
    """The pyarrow ParquetFile; errors in it become one SourceError.

    With a `stamp`, a change of the file is reported before any other error. `metadata` that were
    read before need not be read again.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with damage_reported(path, "a Parquet file", pa.ArrowInvalid, OSError, ValueError):
        try:
            with pq.ParquetFile(
                path, metadata=metadata, buffer_size=BUFFER_BYTES, pre_buffer=False
            ) as file:
                yield file
        except Exception:
            if stamp is not None:
                stamp.check()
            raise


def _check_names(origin: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceError(
            f"{origin}: several columns are named {listed(twice)}; give each its own name"
        )


def with_pandas_metadata(table: Any, schema: Any) -> Any:
    """The table with the metadata that pandas wrote into a file's schema for its columns."""
    metadata = pandas_metadata_of(schema)
    if metadata is None:
        return table.replace_schema_metadata(None)
    names = set(table.column_names)
    metadata["columns"] = [
        column for column in metadata["columns"] if column.get("field_name") in names
    ]
    # An index that was a column is left out; one that counts the rows is described, not stored.
    metadata["index_columns"] = [
        entry for entry in metadata["index_columns"] if isinstance(entry, dict)
    ]
    return table.replace_schema_metadata({b"pandas": json.dumps(metadata).encode()})


def pandas_index(schema: Any) -> list[str]:
    """The names of the columns that pandas wrote as the index."""
    metadata = pandas_metadata_of(schema) or {"index_columns": []}
    return [name for name in metadata["index_columns"] if isinstance(name, str)]


SUFFIXES = (".parquet", ".pq")


def read(path: Path, options: Options) -> Source:
    """A source of the columns, without an index that pandas stored."""
    return _source([path], path, options)


def read_folder(path: Path, options: Options) -> Source:
    """A source of the rows of all Parquet files in and below a folder, in the order of paths."""
    return _source(files_of(path), path, options)


def _source(paths: Sequence[Path], path: Path, options: Options) -> Source:
    records = ParquetRecords(paths, str(path))
    schema = options.columns_schema
    if schema is None:
        kept_columns = pick(records.names, options.columns, options.drop, str(path))
    else:
        kept_columns = columns_of_model(records.names, schema, str(path))
    source = _opened_columns(records, paths, path, options, kept_columns)
    source.extra_columns = tuple(
        n for n in records.names if schema is not None and n not in kept_columns
    )
    return source


def _opened_columns(
    records: ParquetRecords,
    paths: Sequence[Path],
    path: Path,
    options: Options,
    kept_columns: list[str],
) -> FrameSource | StreamedTable:
    schema = options.columns_schema
    size = records.bytes * len(kept_columns) / max(len(records.names), 1)
    if options.stream or (options.stream is None and size > SMALL_BYTES):
        if not len(records.rows):
            raise SourceError(f"{path}: holds no rows; there is nothing to stream")
        if schema is not None:
            source = table_blocks_with_schema(records, schema, kept_columns, layout=options.layout)
        else:
            roles = dict(options.roles)
            source = table_blocks(records, kept_columns, layout=options.layout, roles=roles)
        source.open_at_once = records.open_at_once
        return source
    table = _whole(records, paths, kept_columns)
    if schema is not None:
        return frame_with_schema(table, schema, origin=str(path), layout=options.layout)
    return frame_source(
        table,
        origin=str(path),
        columns=kept_columns,
        layout=options.layout,
        roles=dict(options.roles),
    )


def _whole(records: ParquetRecords, paths: Sequence[Path], kept_columns: Sequence[str]) -> Any:
    """The kept columns of all files as one pyarrow Table."""
    import pyarrow as pa

    tables = []
    for path in paths:
        with opened(path) as file:
            tables.append(file.read(columns=list(kept_columns)))
    if len(tables) == 1:
        return records.with_pandas_metadata(tables[0])
    wanted = records.empty().select(list(kept_columns)).schema
    whole = pa.concat_tables([table.select(list(kept_columns)).cast(wanted) for table in tables])
    return records.with_pandas_metadata(whole)


def files_of(folder: Path) -> list[Path]:
    """The Parquet files in a folder and below it, in the order of their paths."""
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in paths if path.is_file() and not path.name.startswith((".", "_")))


def is_folder(path: Path) -> bool:
    """Whether a path is a folder that holds Parquet files."""
    return path.is_dir() and bool(files_of(path))


def read_header(path: Path, _wanted: bool | None) -> Header:
    """The names of the columns, without the index that pandas stored."""
    first = files_of(path)[0] if path.is_dir() else path
    with opened(first) as file:
        index = pandas_index(file.schema_arrow)
        return Header(tuple(name for name in file.schema_arrow.names if name not in index))


def read_columns(path: Path, names: Sequence[str], _wanted: bool | None, _as_text: bool) -> Any:
    """The named columns as a pyarrow Table, in the types of the file."""
    import pyarrow as pa

    def tables() -> Iterator[Any]:
        for file_path in files_of(path) if path.is_dir() else [path]:
            with opened(file_path) as file:
                yield file.read(columns=list(names))

    return pa.concat_tables(tables(), promote_options="permissive")


def write(path: Path, values: Any, schema: Schema, _names: RowNames) -> None:
    """Writes the columns with their names and dtypes."""
    import pyarrow.parquet as pq

    pq.write_table(as_table(path, values, schema), path)


@contextmanager
def append(file: NewFile) -> Generator[Append]:
    """Writes each block of rows as a row group."""
    import pyarrow.parquet as pq

    with append_tables(file, lambda schema: pq.ParquetWriter(file.path, schema)) as append_block:
        yield append_block


def _no_folder(path: Path, values: Any, schema: Schema, _names: RowNames) -> None:
    del values, schema
    raise RequestError(f"{path}: is a folder of Parquet files, which is not replaced; name a file")


UNDERSTANDS = frozenset({"columns", "drop", "layout", "roles", "stream", "schema"})
PARQUET = Format(
    suffixes=SUFFIXES,
    read=read,
    write=write,
    append=append,
    understands=UNDERSTANDS,
    read_header=read_header,
    read_columns=read_columns,
)
PARQUET_FOLDER = Format(
    suffixes=SUFFIXES,
    match=is_folder,
    is_folder=True,
    read=read_folder,
    write=_no_folder,
    understands=UNDERSTANDS,
    read_header=read_header,
    read_columns=read_columns,
    holds_recordings=False,
)
