"""Text tables on disk, indexed by one offset for every few thousand rows."""

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.formats.csv_lines import QuoteError, Span, spans
from isthmus.data.on_disk import CHUNK_BYTES, FileStamp
from isthmus.data.tables.streamed import Records
from isthmus.errors import SourceError


class TextRecords(Records):
    """The rows of one CSV or TSV file.

    A first pass over the file finds the offsets of rows and the types of columns. The types are
    those that `pyarrow.csv` would infer from the whole file; the columns `texts` are text.
    """

    def __init__(
        self,
        path: Path,
        delimiter: str,
        names: Sequence[str],
        skipped: int,
        parse: Callable[[bytes, Any], Any],
        explain: Callable[[Span, Exception], SourceError],
        *,
        texts: Sequence[str] = (),
    ) -> None:
        import pyarrow as pa

        self.origin, self.names = str(path), tuple(names)
        self.stamp, self.parse, self.explain = FileStamp.of(path), parse, explain
        rows = max(1, CHUNK_BYTES // (8 * max(len(names), 1)))
        self.spans: list[Span] = []
        kinds, known_types = [_Kind() for _ in names], dict.fromkeys(texts, pa.string())
        try:
            for span in spans(path, delimiter, rows, skipped):
                table = self._parsed(span, known_types)
                if has_bytes(table):
                    raise self.explain(span, ValueError("invalid UTF8"))
                for kind, column in zip(kinds, table.columns, strict=True):
                    kind.see(column)
                self.spans.append(span)
        except QuoteError as error:
            raise quote_error_message(path, error) from error
        self.types = {
            name: kind.common_type() for name, kind in zip(self.names, kinds, strict=True)
        }
        self.bounds = np.cumsum([0, *(span.rows for span in self.spans)]).astype(np.intp)

    def empty(self) -> Any:
        """A Table without rows."""
        import pyarrow as pa

        return pa.schema(list(self.types.items())).empty_table()

    def as_text(self, names: Sequence[str]) -> "TextRecords":
        """These records, with the cells of the columns `names` as they are written."""
        import pyarrow as pa

        other = copy.copy(self)
        other.types = self.types | dict.fromkeys(names, pa.string())
        return other

    def batches(self, group: int, names: Sequence[str], rows: int) -> Iterator[Any]:
        """The Tables of one span."""
        table = self._parsed(self.spans[group], self.types).select(list(names))
        for start in range(0, table.num_rows, rows):
            yield table.slice(start, rows)

    def _parsed(self, span: Span, types: Any) -> Any:
        import pyarrow as pa

        self.stamp.check()
        with self.stamp.path.open("rb") as file:
            file.seek(span.start)
            data = file.read(span.end - span.start)
        try:
            table = self.parse(data, types)
        except pa.ArrowInvalid as error:
            self.stamp.check()
            raise self.explain(span, error) from error
        if table.num_rows != span.rows:
            self.stamp.check()
            raise self.explain(span, ValueError(f"{table.num_rows} rows instead of {span.rows}"))
        return table


def has_bytes(table: Any) -> bool:
    """Whether pyarrow read a text column as binary, as it does if a cell is not UTF-8."""
    import pyarrow as pa

    return any(pa.types.is_binary(field.type) for field in table.schema)


def quote_error_message(path: Path, error: QuoteError) -> SourceError:
    """The error for a quote that is not closed properly."""
    what = "is closed within a cell, with text after it" if error.closed else "is never closed"
    return SourceError(
        f"{path}: line {error.line}: the quote that opens a cell there {what}, so the "
        "text after it would become a part of the cell; close it at the end of the cell, and "
        "double quotes that are part of the text"
    )


class _Kind:
    """The type of a whole column, inferred from the types of its parts."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.all_zero_or_one = True
        """Whether all whole numbers so far are 0 or 1."""

    def see(self, column: Any) -> None:
        """Add the type of a part of the column."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self.seen[str(column.type)] = column.type
        if self.all_zero_or_one and pa.types.is_integer(column.type):
            ends = pc.min_max(column).as_py()
            self.all_zero_or_one = ends["min"] is None or (ends["min"] >= 0 and ends["max"] <= 1)

    def common_type(self) -> Any:
        """The type that all cells fit, the first in pyarrow's order of inference."""
        import pyarrow as pa

        kinds = {name: kind for name, kind in self.seen.items() if name != "null"}
        names = set(kinds)
        if len(names) < 2:
            return next(iter(kinds.values()), pa.null())
        if names == {"int64", "bool"} and self.all_zero_or_one:
            return pa.bool_()
        if names == {"int64", "double"}:
            return pa.float64()
        if names <= {"date32[day]", "timestamp[s]", "timestamp[ns]"}:
            return pa.timestamp("ns" if "timestamp[ns]" in names else "s")
        return pa.string()
