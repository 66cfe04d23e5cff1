"""Tables as text: comma-separated (.csv) and tab-separated (.tsv) values in UTF-8.

The first line names the columns, unless every cell of it is a number: then there is no header, the
columns are known as column_0, column_1, ... and none is written when the rows are given back.
Names that are all numbers (wavelengths, years) need header=True.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from isthmus.data.coding import reads_as_number
from isthmus.data.formats.base import Format, Options, RowNames, ends_with, first_line
from isthmus.data.formats.values import as_table
from isthmus.data.frames import frame_source, listed, pick
from isthmus.data.schema import Schema
from isthmus.errors import SourceError
from isthmus.types import Source

BLOCK_BYTES = 2**25
"""How much is parsed at once; a row must fit."""


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
    table = read_table(path, delimiter, header, kept, options.missing)
    return frame_source(
        table,
        origin=str(path),
        columns=kept,
        layout=options.layout,
        named=header.present,
        roles=dict(options.roles),
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
    path: Path, delimiter: str, header: Header, kept: list[str], missing: Sequence[str] = ()
) -> Any:
    """The kept columns, each in the narrowest type that all of its cells fit."""
    import pyarrow as pa
    import pyarrow.csv as pc

    reading = pc.ReadOptions(
        column_names=header.names,
        skip_rows=header.empty,
        skip_rows_after_names=int(header.present),
        block_size=min(path.stat().st_size + 1, BLOCK_BYTES),
    )
    parsing = pc.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    words = [*pc.ConvertOptions().null_values, *missing, *(f" {word}" for word in missing)]
    converting = pc.ConvertOptions(
        include_columns=kept, strings_can_be_null=True, null_values=words
    )
    try:
        return pc.read_csv(path, reading, parsing, converting)
    except pa.ArrowInvalid as error:
        raise _explained(path, delimiter, len(header.names), error) from error


def _explained(path: Path, delimiter: str, width: int, error: Exception) -> SourceError:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter)
        for row in rows:
            if row and len(row) != width:
                return SourceError(
                    f"{path}: line {rows.line_num} has {len(row)} columns and the first line has "
                    f"{width}; give every row {width}, and quote cells that hold the delimiter"
                )
    return SourceError(f"{path}: the file cannot be read as a table ({first_line(error)})")


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
        frozenset({"columns", "drop", "layout", "header", "roles", "missing"}),
    )


CSV = _format(".csv", ",")
TSV = _format(".tsv", "\t")
