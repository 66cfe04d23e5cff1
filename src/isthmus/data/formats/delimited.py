"""Tables as text: comma-separated (.csv) and tab-separated (.tsv) values in UTF-8.

The first line names the columns, unless every cell of it is a number: then there is no header, the
columns are known as column_0, column_1, ... and none is written when the rows are given back.
Names that are all numbers (wavelengths, years) need header=True.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from isthmus.data.columns import EVERY, IDENTIFIER, LEVELLED, listed
from isthmus.data.formats.base import Format, Options, RowNames, ends_with, first_line
from isthmus.data.formats.broken_text import check_closed, explained, not_utf8
from isthmus.data.formats.csv_lines import Span
from isthmus.data.formats.csv_stream import TextRecords, has_bytes
from isthmus.data.formats.values import as_table
from isthmus.data.on_disk import SMALL_BYTES, Stamp
from isthmus.data.schema import Schema
from isthmus.data.tables.frames import frame_source, pick
from isthmus.data.tables.streamed import table_blocks
from isthmus.data.tables.to_numbers import reads_as_number
from isthmus.errors import SourceError
from isthmus.types import Source

BLOCK_BYTES = 2**25
"""How much is parsed at once; a row must fit."""

OTHERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
"""What parts the cells of text tables, here and elsewhere."""


class Header(NamedTuple):
    """The names of the columns, whether they stand in the file, and how many lines before them."""

    names: tuple[str, ...]
    present: bool
    empty: int


def read(path: Path, options: Options, *, delimiter: str) -> Source:
    """The columns; empty cells, NA, NaN and null are gaps."""
    header = read_header(path, delimiter, options.header)
    kept = pick(header.names, options.columns, options.drop, str(path))
    _check_names(path, header, kept)
    large = options.stream is None and path.stat().st_size > SMALL_BYTES
    if options.stream or large:
        return _streamed(path, options, delimiter, header, kept)
    stamp = Stamp.of(path)

    def read_text(names: Sequence[str]) -> Any:
        stamp.check()
        return read_table(path, delimiter, header, names, options.missing, texts=names)

    texts = _declared_text(options, kept)
    table = read_table(path, delimiter, header, kept, options.missing, texts=texts)
    source = frame_source(
        table,
        origin=str(path),
        columns=kept,
        layout=options.layout,
        named=header.present,
        roles=dict(options.roles),
    )
    source.read_text = read_text
    return source


def _declared_text(options: Options, kept: Sequence[str]) -> list[str]:
    """The columns whose values are names, be they made of digits: "01" is not "1"."""
    roles = dict(options.roles)
    every = roles.get(EVERY)
    return [name for name in kept if roles.get(name, every) in (*LEVELLED, IDENTIFIER)]


def _streamed(
    path: Path, options: Options, delimiter: str, header: Header, kept: list[str]
) -> Source:
    """The same of a file whose rows stay there."""

    def parse(data: bytes, types: Any) -> Any:
        import pyarrow as pa

        return _parsed(
            pa.BufferReader(data), len(data) + 1, delimiter, header, kept, options, types
        )

    def explain(span: Span, error: Exception) -> SourceError:
        return explained(path, delimiter, header.names, kept, error, span)

    skipped = int(header.present)
    texts = _declared_text(options, kept)
    records = TextRecords(path, delimiter, kept, skipped, parse, explain, texts=texts)
    if not records.spans:
        raise SourceError(f"{path}: holds no rows; there is nothing to stream")
    return table_blocks(
        records,
        kept,
        layout=options.layout,
        named=header.present,
        roles=dict(options.roles),
    )


def _parsed(
    source: Any,
    size: int,
    delimiter: str,
    header: Header,
    kept: list[str],
    options: Options,
    types: Any,
) -> Any:
    """The kept columns of whole rows, in the types that are told or else those that they fit."""
    import pyarrow.csv as pc

    reading = pc.ReadOptions(column_names=header.names, block_size=size, use_threads=False)
    parsing = pc.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    converting = _converting(kept, options.missing)
    converting.column_types = types
    return pc.read_csv(source, reading, parsing, converting)


def _converting(
    kept: Sequence[str],
    missing: Sequence[str],
    types: Mapping[str, Any] | None = None,
    texts: Sequence[str] = (),
) -> Any:
    import pyarrow as pa
    import pyarrow.csv as pc

    if types is not None:
        return pc.ConvertOptions(include_columns=kept, column_types=types, null_values=[])
    words = [*pc.ConvertOptions().null_values, *missing, *(f" {word}" for word in missing)]
    return pc.ConvertOptions(
        include_columns=kept,
        column_types=dict.fromkeys(texts, pa.string()),
        strings_can_be_null=True,
        null_values=words,
    )


def read_header(path: Path, delimiter: str, wanted: bool | None) -> Header:
    """What the first line that is not empty says; `wanted` as `Options.header`."""
    # Bytes that are not UTF-8 matter here only where they stand in the first line.
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
    """Whether the first line holds names; SourceError where that cannot be told."""
    numbers = [cell for cell in first if reads_as_number(cell)]
    words = [cell for cell in first if cell and not reads_as_number(cell)]
    if numbers and words:
        raise SourceError(
            f"{path}: the first line holds words and numbers ({words[0]!r}, {numbers[0]!r}), so "
            "that it may name the columns or be a row; say header=True or header=False (command "
            "line: --header or --no-header)"
        )
    return not numbers


def _check_delimiter(path: Path, first: Sequence[str], delimiter: str) -> None:
    """Raise SourceError where the first line looks as if something else parted its cells.

    That is so where it is one cell for us, or where its cells are numbers (perhaps with decimal
    commas) with another separator and not with ours. Prose has a space behind its commas.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        line = next(filter(str.strip, file), "").strip("\r\n")
    numbers = all(map(reads_as_number, first))
    for other, what in OTHERS.items():
        cells = next(csv.reader([line], delimiter=other), [])
        if other == delimiter or len(cells) < 2:
            continue
        prose = other != "\t" and any(cell.startswith(" ") for cell in cells[1:])
        decimal = all(reads_as_number(cell.replace(",", ".")) for cell in cells)
        if (decimal and not numbers) or (len(first) == 1 and not prose):
            ours = OTHERS[delimiter]
            point = ", with points for decimal commas" if other == ";" else ""
            name = f", or name it {path.stem}.tsv" if other == "\t" else ""
            raise SourceError(
                f"{path}: what parts the cells of the first line seems to be {what} and not {ours} "
                f"({line[:60]!r}); save it with {ours}{point}{name}; if it is one cell, quote it"
            )


def _not_text(path: Path, reason: str) -> SourceError:
    return SourceError(
        f"{path}: the first line cannot be read as text ({reason}); save the file as UTF-8"
    )


def _check_names(path: Path, header: Header, kept: list[str]) -> None:
    twice = [name for name, count in Counter(header.names).items() if count > 1]
    if twice:
        raise SourceError(
            f"{path}: several columns are named {listed(twice)}; give each its own name, or say "
            "header=False if the first line holds values"
        )
    if "" in kept:
        raise SourceError(
            f"{path}: column {header.names.index('') + 1} has no name in the header (so writes "
            "pandas an index); write it with index=False, name it, or leave it out with drop=['']"
        )


def read_table(
    path: Path,
    delimiter: str,
    header: Header,
    kept: Sequence[str],
    missing: Sequence[str] = (),
    *,
    types: Mapping[str, Any] | None = None,
    texts: Sequence[str] = (),
) -> Any:
    """The kept columns, each in the narrowest type that all of its cells fit, `texts` as text.

    Where there are `types`, by name, cells are taken as they are written and none is a gap.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    reading = pc.ReadOptions(
        column_names=header.names,
        skip_rows=header.empty,
        skip_rows_after_names=int(header.present),
        block_size=min(path.stat().st_size + 1, BLOCK_BYTES),
    )
    parsing = pc.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        table = pc.read_csv(path, reading, parsing, _converting(kept, missing, types, texts))
    except pa.ArrowInvalid as error:
        raise explained(path, delimiter, header.names, kept, error) from error
    check_closed(path, delimiter)
    if has_bytes(table):
        raise not_utf8(path, delimiter, header.names, kept)
    return table


def write(path: Path, values: Any, schema: Schema, _names: RowNames, *, delimiter: str) -> None:
    """Writes the columns, with a header where they have names."""
    import pyarrow.csv as pc

    options = pc.WriteOptions(include_header=schema.names is not None, delimiter=delimiter)
    pc.write_csv(as_table(path, values, schema), path, options)


def _format(suffix: str, delimiter: str) -> Format:
    return Format(
        ends_with(suffix),
        partial(read, delimiter=delimiter),
        partial(write, delimiter=delimiter),
        frozenset({"columns", "drop", "layout", "header", "roles", "missing", "stream"}),
    )


CSV = _format(".csv", ",")
TSV = _format(".tsv", "\t")
