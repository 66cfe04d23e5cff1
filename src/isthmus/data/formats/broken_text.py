"""Error messages for broken text tables, with the line of the error."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from isthmus.data.formats.base import first_line
from isthmus.data.formats.csv_lines import QuoteError, Span, line_number, spans
from isthmus.data.formats.csv_stream import quote_error_message
from isthmus.errors import SourceError, drop_column

ROWS_AT_ONCE = 1 << 16

SHOWN_BYTES = 40
"""How many bytes of a cell that is not UTF-8 a message shows."""


def check_closed(path: Path, delimiter: str) -> None:
    """Raise SourceError if a quote is not closed, which pyarrow does not report."""
    try:
        for _ in spans(path, delimiter, ROWS_AT_ONCE):
            pass
    except QuoteError as broken:
        raise quote_error_message(path, broken) from broken


def describe_failure(
    path: Path,
    delimiter: str,
    names: Sequence[str],
    kept_columns: Sequence[str],
    error: Exception,
    span: Span | None = None,
) -> SourceError:
    """The error that describes why a file, or a span of its rows, cannot be read."""
    if span is None:
        check_closed(path, delimiter)
    width = len(names)
    uneven_row = _row_of_other_width(path, delimiter, width, span)
    if uneven_row is None and "UTF8" in str(error):
        return describe_not_utf8(path, delimiter, names, kept_columns, span)
    if uneven_row is None:
        return SourceError(f"{path}: the file cannot be read as a table ({first_line(error)})")
    line, cells = uneven_row
    return SourceError(
        f"{path}: line {line} has {cells} columns and the first line has {width}; give every row "
        f"{width}, and quote cells that hold the delimiter"
    )


def describe_not_utf8(
    path: Path,
    delimiter: str,
    names: Sequence[str],
    kept_columns: Sequence[str],
    span: Span | None = None,
) -> SourceError:
    """The error for cells that are not UTF-8; it names the first one in `kept_columns`."""
    indices = [index for index, name in enumerate(names) if name in kept_columns]
    for line, row in _rows(path, delimiter, span):
        for index in indices:
            cell = row[index] if index < len(row) else ""
            if any("\udc80" <= letter <= "\udcff" for letter in cell):
                shown = cell.encode("utf-8", "surrogateescape")[:SHOWN_BYTES]
                return SourceError(
                    f"{path}: line {line}: {shown!r} in column {names[index]!r} is not UTF-8; save "
                    "the file as UTF-8 (it may be Latin-1: iconv -f LATIN1 -t UTF-8), or leave the "
                    f"column out with {drop_column(names[index])}"
                )
    return SourceError(f"{path}: the file is not UTF-8; save it as UTF-8")


def _row_of_other_width(
    path: Path, delimiter: str, width: int, span: Span | None
) -> tuple[int, int] | None:
    """The line and the number of cells of the first row without exactly `width` cells."""
    rows = _rows(path, delimiter, span)
    return next(((line, len(row)) for line, row in rows if row and len(row) != width), None)


def _rows(path: Path, delimiter: str, span: Span | None) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file or span with their line numbers; invalid bytes become surrogates."""
    with path.open("rb") as file:
        start = span.start if span is not None else 0
        file.seek(start)
        data = file if span is None else io.BytesIO(file.read(span.end - span.start))
        text = io.TextIOWrapper(data, encoding="utf-8-sig", errors="surrogateescape", newline="")
        with text, _cells_of_any_length():
            rows, line = csv.reader(text, delimiter=delimiter), line_number(path, start)
            first = line
            for row in rows:
                yield line, row
                line = first + rows.line_num


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
