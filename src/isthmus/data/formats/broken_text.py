"""What is wrong with a table of text, told by its line."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from isthmus.data.formats.base import first_line
from isthmus.data.formats.csv_lines import QuoteError, Span, line_number, spans
from isthmus.data.formats.csv_stream import quote_error_message
from isthmus.errors import SourceError

ROWS_AT_ONCE = 1 << 16

SHOWN_BYTES = 40
"""Of a cell that is no text."""


def check_closed(path: Path, delimiter: str) -> None:
    """Raise SourceError where quotes are not closed, of which pyarrow says nothing."""
    try:
        for _ in spans(path, delimiter, ROWS_AT_ONCE):
            pass
    except QuoteError as broken:
        raise quote_error_message(path, broken) from broken


def describe_failure(
    path: Path,
    delimiter: str,
    names: Sequence[str],
    kept: Sequence[str],
    error: Exception,
    span: Span | None = None,
) -> SourceError:
    """What is wrong with a file, or with a span of its rows."""
    if span is None:
        check_closed(path, delimiter)
    width = len(names)
    found = _row_of_other_width(path, delimiter, width, span)
    if found is None and "UTF8" in str(error):
        return describe_not_utf8(path, delimiter, names, kept, span)
    if found is None:
        return SourceError(f"{path}: the file cannot be read as a table ({first_line(error)})")
    line, cells = found
    return SourceError(
        f"{path}: line {line} has {cells} columns and the first line has {width}; give every row "
        f"{width}, and quote cells that hold the delimiter"
    )


def describe_not_utf8(
    path: Path,
    delimiter: str,
    names: Sequence[str],
    kept: Sequence[str],
    span: Span | None = None,
) -> SourceError:
    """What to say of cells that are not UTF-8, naming the first of them in the columns `kept`."""
    at = [place for place, name in enumerate(names) if name in kept]
    for line, row in _rows(path, delimiter, span):
        for place in at:
            cell = row[place] if place < len(row) else ""
            if any("\udc80" <= letter <= "\udcff" for letter in cell):
                found = cell.encode("utf-8", "surrogateescape")[:SHOWN_BYTES]
                return SourceError(
                    f"{path}: line {line}: {found!r} in column {names[place]!r} is not UTF-8; save "
                    "the file as UTF-8 (it may be Latin-1: iconv -f LATIN1 -t UTF-8), or leave the "
                    f"column out with drop=[{names[place]!r}] (command line: --drop "
                    f"{names[place]})"
                )
    return SourceError(f"{path}: the file is not UTF-8; save it as UTF-8")


def _row_of_other_width(
    path: Path, delimiter: str, width: int, span: Span | None
) -> tuple[int, int] | None:
    """The first line of a row that has not `width` cells, and how many it has."""
    rows = _rows(path, delimiter, span)
    return next(((line, len(row)) for line, row in rows if row and len(row) != width), None)


def _rows(path: Path, delimiter: str, span: Span | None) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file or a span, each with its first line; other bytes are surrogates."""
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
