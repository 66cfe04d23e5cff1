"""Tables as text: comma-separated (.csv) and tab-separated (.tsv) values in UTF-8.

The first line names the columns, unless every cell of it is a number: then there is no header, the
columns are called column_0, column_1, ... and restored rows are written without a header, too.
Names that are all numbers (wavelengths, years) need header=True.
"""

import csv
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from isthmus.data.columns import ALL_COLUMNS, CATEGORY_ROLES, IDENTIFIER, listed
from isthmus.data.formats.base import (
    Append,
    Format,
    Header,
    NewFile,
    Options,
    RowNames,
    first_line,
)
from isthmus.data.formats.broken_text import check_closed, describe_failure, describe_not_utf8
from isthmus.data.formats.csv_lines import Span
from isthmus.data.formats.csv_stream import TextRecords, has_bytes
from isthmus.data.formats.values import append_tables, as_table
from isthmus.data.on_disk import SMALL_BYTES, FileStamp
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.data.tables.frames import (
    FrameSource,
    columns_of_model,
    frame_source,
    frame_with_schema,
    pick,
)
from isthmus.data.tables.streamed import StreamedTable, table_blocks, table_blocks_with_schema
from isthmus.data.tables.to_numbers import parses_as_number
from isthmus.data.tables.untyped import text_columns
from isthmus.errors import SourceError, either

BLOCK_BYTES = 2**25
"""How many bytes are parsed at once; a row must fit."""

SEPARATOR_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
"""The names of the separators between cells of text tables."""


def read(path: Path, options: Options, *, delimiter: str) -> Source:
    """A source of the columns; empty cells, NA, NaN and null are missing values."""
    header = read_header(path, delimiter, options.header)
    schema = options.columns_schema if header.present else None
    if schema is None:
        kept_columns = pick(header.names, options.columns, options.drop, str(path))
    else:
        kept_columns = columns_of_model(header.names, schema, str(path))
    _check_names(path, header, kept_columns)
    source = _read(path, options, delimiter, header, kept_columns, schema)
    source.extra_columns = tuple(
        n for n in header.names if schema is not None and n not in kept_columns
    )
    return source


def _read(
    path: Path,
    options: Options,
    delimiter: str,
    header: Header,
    kept_columns: list[str],
    schema: Schema | None,
) -> FrameSource | StreamedTable:
    large = options.stream is None and path.stat().st_size > SMALL_BYTES
    if options.stream or large:
        return _streamed(path, options, delimiter, header, kept_columns, schema)
    texts = _text_columns(options, kept_columns, schema)
    if schema is not None:
        table = read_table(path, delimiter, header, kept_columns, options.missing, texts=texts)
        return frame_with_schema(table, schema, origin=str(path), layout=options.layout)
    stamp = FileStamp.of(path)

    def read_text(names: Sequence[str]) -> Any:
        stamp.check()
        return read_table(path, delimiter, header, names, options.missing, texts=names)

    table = read_table(path, delimiter, header, kept_columns, options.missing, texts=texts)
    source = frame_source(
        table,
        origin=str(path),
        columns=kept_columns,
        layout=options.layout,
        named=header.present,
        roles=dict(options.roles),
    )
    source.read_text = read_text
    return source


def _text_columns(
    options: Options, kept_columns: Sequence[str], schema: Schema | None
) -> list[str]:
    """The columns that are read as text even if they consist of digits: "01" is not "1"."""
    if schema is not None:
        return text_columns(schema, schema.names or (), kept_columns)
    roles = dict(options.roles)
    every = roles.get(ALL_COLUMNS)
    return [
        name for name in kept_columns if roles.get(name, every) in (*CATEGORY_ROLES, IDENTIFIER)
    ]


def _streamed(
    path: Path,
    options: Options,
    delimiter: str,
    header: Header,
    kept_columns: list[str],
    schema: Schema | None,
) -> StreamedTable:
    """The table of a file whose rows stay on disk."""

    def parse(data: bytes, types: Any) -> Any:
        import pyarrow as pa

        return _parsed(
            pa.BufferReader(data), len(data) + 1, delimiter, header, kept_columns, options, types
        )

    def explain(span: Span, error: Exception) -> SourceError:
        return describe_failure(path, delimiter, header.names, kept_columns, error, span)

    skipped = int(header.present)
    texts = _text_columns(options, kept_columns, schema)
    records = TextRecords(path, delimiter, kept_columns, skipped, parse, explain, texts=texts)
    if not records.spans:
        raise SourceError(f"{path}: holds no rows; there is nothing to stream")
    if schema is not None:
        return table_blocks_with_schema(records, schema, kept_columns, layout=options.layout)
    return table_blocks(
        records,
        kept_columns,
        layout=options.layout,
        named=header.present,
        roles=dict(options.roles),
    )


def _parsed(
    source: Any,
    size: int,
    delimiter: str,
    header: Header,
    kept_columns: list[str],
    options: Options,
    types: Any,
) -> Any:
    """The kept columns of whole rows, in the given types or else in inferred ones."""
    import pyarrow.csv as pc

    reading = pc.ReadOptions(column_names=header.names, block_size=size, use_threads=False)
    parsing = pc.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    converting = _converting(kept_columns, options.missing)
    converting.column_types = types
    return pc.read_csv(source, reading, parsing, converting)


def _converting(
    kept_columns: Sequence[str],
    missing: Sequence[str],
    types: Mapping[str, Any] | None = None,
    texts: Sequence[str] = (),
) -> Any:
    import pyarrow as pa
    import pyarrow.csv as pc

    if types is not None:
        return pc.ConvertOptions(include_columns=kept_columns, column_types=types, null_values=[])
    words = [*pc.ConvertOptions().null_values, *missing, *(f" {word}" for word in missing)]
    return pc.ConvertOptions(
        include_columns=kept_columns,
        column_types=dict.fromkeys(texts, pa.string()),
        strings_can_be_null=True,
        null_values=words,
    )


def read_header(path: Path, delimiter: str, wanted: bool | None) -> Header:
    """The header in the first line that is not empty; `wanted` is `Options.header`."""
    # Bytes that are not UTF-8 matter here only if they are in the first line.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = enumerate(csv.reader(file, delimiter=delimiter))
        try:
            empty, first = next(((number, row) for number, row in rows if row), (0, []))
        except csv.Error as error:
            raise _not_text(path, first_line(error)) from error
    if not first:
        raise SourceError(f"{path}: the file holds only empty lines; give one with rows in it")
    if any("\udc80" <= letter <= "\udcff" for cell in first for letter in cell):
        raise _not_text(path, "not UTF-8")
    _check_delimiter(path, first, delimiter)
    present = _names_columns(path, first) if wanted is None else wanted
    names = first if present else [f"column_{index}" for index in range(len(first))]
    return Header(tuple(names), present, empty)


def _names_columns(path: Path, first: Sequence[str]) -> bool:
    """Whether the first line holds names; SourceError if that is ambiguous."""
    numbers = [cell for cell in first if parses_as_number(cell)]
    words = [cell for cell in first if cell and not parses_as_number(cell)]
    if numbers and words:
        raise SourceError(
            f"{path}: the first line holds words and numbers ({words[0]!r}, {numbers[0]!r}), so "
            "it may be a header or a row; set "
            f"{either('header=True or header=False', '--header or --no-header')}"
        )
    return not numbers


def _check_delimiter(path: Path, first: Sequence[str], delimiter: str) -> None:
    """Raise SourceError if the first line seems to have another delimiter.

    Either it is one cell with `delimiter`, or its cells are numbers only with another separator,
    perhaps with decimal commas. Prose is recognized by the space after its commas.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        line = next(filter(str.strip, file), "").strip("\r\n")
    numbers = all(map(parses_as_number, first))
    for other, what in SEPARATOR_NAMES.items():
        cells = next(csv.reader([line], delimiter=other), [])
        if other == delimiter or len(cells) < 2:
            continue
        prose = other != "\t" and any(cell.startswith(" ") for cell in cells[1:])
        decimal = all(parses_as_number(cell.replace(",", ".")) for cell in cells)
        if (decimal and not numbers) or (len(first) == 1 and not prose):
            ours = SEPARATOR_NAMES[delimiter]
            point = ", with points for decimal commas" if other == ";" else ""
            name = f", or name it {path.stem}.tsv" if other == "\t" else ""
            raise SourceError(
                f"{path}: the separators in the first line seem to be {what} and not {ours} "
                f"({line[:60]!r}); save it with {ours}{point}{name}; if it is one cell, quote it"
            )


def _not_text(path: Path, reason: str) -> SourceError:
    return SourceError(
        f"{path}: the first line cannot be read as text ({reason}); save the file as UTF-8"
    )


def _check_names(path: Path, header: Header, kept_columns: list[str]) -> None:
    twice = [name for name, count in Counter(header.names).items() if count > 1]
    if twice:
        raise SourceError(
            f"{path}: several columns are named {listed(twice)}; give each its own name, or say "
            "header=False if the first line holds values"
        )
    if "" in kept_columns:
        raise SourceError(
            f"{path}: column {header.names.index('') + 1} has no name in the header (pandas "
            "writes an index like this); write it with index=False, name it, or leave it out with "
            "drop=['']"
        )


def read_table(
    path: Path,
    delimiter: str,
    header: Header,
    kept_columns: Sequence[str],
    missing: Sequence[str] = (),
    *,
    types: Mapping[str, Any] | None = None,
    texts: Sequence[str] = (),
) -> Any:
    """The kept columns, each in the narrowest type that all of its cells fit, `texts` as text.

    With `types`, by name, cells are read as they are written and no value is missing.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    reading = pc.ReadOptions(
        column_names=header.names,
        skip_rows=header.empty_lines,
        skip_rows_after_names=int(header.present),
        block_size=min(path.stat().st_size + 1, BLOCK_BYTES),
    )
    parsing = pc.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        table = pc.read_csv(
            path, reading, parsing, _converting(kept_columns, missing, types, texts)
        )
    except pa.ArrowInvalid as error:
        raise describe_failure(path, delimiter, header.names, kept_columns, error) from error
    check_closed(path, delimiter)
    if has_bytes(table):
        raise describe_not_utf8(path, delimiter, header.names, kept_columns)
    return table


def write(path: Path, values: Any, schema: Schema, _names: RowNames, *, delimiter: str) -> None:
    """Writes the columns, with a header if they have names."""
    import pyarrow.csv as pc

    pc.write_csv(as_table(path, values, schema), path, _write_options(schema, delimiter))


@contextmanager
def append(file: NewFile, *, delimiter: str) -> Generator[Append]:
    """Writes blocks of rows, after a header if the columns have names."""
    import pyarrow.csv as pc

    def open_writer(schema: Any) -> Any:
        options = _write_options(file.schema, delimiter)
        return pc.CSVWriter(file.path, schema, write_options=options)

    with append_tables(file, open_writer) as append_block:
        yield append_block


def _write_options(schema: Schema, delimiter: str) -> Any:
    import pyarrow.csv as pc

    return pc.WriteOptions(include_header=schema.names is not None, delimiter=delimiter)


def read_columns(
    path: Path, names: Sequence[str], wanted: bool | None, as_text: bool, *, delimiter: str
) -> Any:
    """The named columns as a pyarrow Table, with cells as they are written if `as_text`."""
    import pyarrow as pa

    types = dict.fromkeys(names, pa.string()) if as_text else None
    header = read_header(path, delimiter, wanted)
    return read_table(path, delimiter, header, names, types=types)


def _format(suffix: str, delimiter: str) -> Format:
    return Format(
        suffixes=(suffix,),
        read=partial(read, delimiter=delimiter),
        write=partial(write, delimiter=delimiter),
        append=partial(append, delimiter=delimiter),
        understands=frozenset(
            {"columns", "drop", "layout", "header", "roles", "missing", "stream", "schema"}
        ),
        delimiter=delimiter,
        read_header=lambda path, wanted: read_header(path, delimiter, wanted),
        read_columns=partial(read_columns, delimiter=delimiter),
    )


CSV = _format(".csv", ",")
TSV = _format(".tsv", "\t")
