"""Text tables with missing values filled in; every other cell stays as it is written."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from isthmus.data.formats import format_of
from isthmus.data.formats.base import Header
from isthmus.data.formats.delimited import BLOCK_BYTES, read_header
from isthmus.data.output.write import ending, unwritable
from isthmus.data.source import Source
from isthmus.data.tables.frames import FrameSource
from isthmus.data.tables.streamed import StreamedTable
from isthmus.errors import SourceError
from isthmus.files import replacing
from isthmus.types import Array

Write = Callable[[Source, Any], None]


def can_copy_cells(path: str, target: Path, source: Source) -> bool:
    """Whether cells can be copied: rows of the text table `path` go to another text table."""
    are_text = _delimiter(Path(path)) is not None and _delimiter(target) is not None
    return are_text and isinstance(source, FrameSource | StreamedTable)


@contextmanager
def filling_cells(
    path: str, target: Path, *, header: bool | None = None, force: bool = False
) -> Iterator[Write]:
    """A function that writes blocks of rows of a text table, each with its filled table.

    The blocks come in the order of the file, and one of them is in memory at a time. The text of
    cells with a value, and of columns outside the model, is copied. `target` is replaced only
    after all blocks are written.

    Raises SourceError if the file no longer has those rows, or if writing fails.
    """
    file = Path(path)
    file_delimiter, delimiter = _delimiter(file), _delimiter(target)
    assert file_delimiter is not None
    assert delimiter is not None
    names_line = read_header(file, file_delimiter, header)
    cells = _Cells(file, file_delimiter, names_line)
    stack, begun = ExitStack(), False
    with unwritable(target):
        fresh = stack.enter_context(replacing(target, force=force))
        out = stack.enter_context(_opened(fresh))

    def write(block: Source, filled: Any) -> None:
        nonlocal begun
        assert isinstance(block, FrameSource)
        names = block.table.columns
        columns = _filled(block, filled, cells.take(names, len(block)))
        with unwritable(target):
            if names_line.present and not begun:
                _write_lines(out, [[name] for name in names], delimiter)
            _write_lines(out, columns, delimiter)
        begun = True

    with ending(stack, target):
        yield write
        cells.check_end()


def _delimiter(path: Path) -> str | None:
    chosen = format_of(path)
    return None if chosen is None else chosen.delimiter


def _opened(path: Path) -> IO[str]:
    """An open text file that also copies bytes that are not UTF-8."""
    return path.open("w", encoding="utf-8", errors="surrogateescape", newline="")


def _filled(block: FrameSource, filled: Any, cells: list[Array]) -> list[Sequence[str]]:
    """The cells of each column of a block, with the filled values as text."""
    import pyarrow as pa

    missing = {str(series.name): block.missing(index) for index, series in enumerate(block.series)}
    for index, name in enumerate(block.table.columns):
        if name in missing and missing[name].any():
            texts = filled.column(name).cast(pa.string()).to_numpy(zero_copy_only=False)
            cells[index] = np.where(missing[name] & (texts != None), texts, cells[index])  # noqa: E711
    return [column.tolist() for column in cells]


def _write_lines(out: IO[str], columns: Sequence[Sequence[str]], delimiter: str) -> None:
    special = re.compile(f'["\r\n{delimiter}]')

    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if special.search(cell) else cell

    rows = zip(*([quoted(cell) for cell in column] for column in columns), strict=True)
    # An empty line is not a row; a line with an empty cell in quotes is.
    out.writelines(f"{delimiter.join(row) or chr(34) * 2}\n" for row in rows)


class _Cells:
    """The cells of a text table as they are written, read block by block."""

    def __init__(self, path: Path, delimiter: str, header: Header) -> None:
        self.path, self.delimiter, self.header = path, delimiter, header
        self.reader: Any = None
        self.waiting: Any = None
        """Rows that have been read but not taken."""

    def take(self, names: Sequence[str], rows: int) -> list[Array]:
        """(rows,) the text of the next cells of each of these columns."""
        import pyarrow as pa

        if self.reader is None:
            self.reader = self._opened(names)
            self.waiting = self.reader.schema.empty_table()
        while self.waiting.num_rows < rows:
            try:
                batch = self.reader.read_next_batch()
            except StopIteration:
                raise self._changed() from None
            self.waiting = pa.concat_tables([self.waiting, pa.Table.from_batches([batch])])
        taken, self.waiting = self.waiting.slice(0, rows), self.waiting.slice(rows)
        return [
            np.asarray([cell.decode("utf-8", "surrogateescape") for cell in column], object)
            for column in (taken.column(name).to_pylist() for name in names)
        ]

    def check_end(self) -> None:
        """Raise SourceError if rows are left."""
        if self.waiting is not None and (self.waiting.num_rows or any(map(len, self.reader))):
            raise self._changed()

    def _opened(self, names: Sequence[str]) -> Any:
        import pyarrow as pa
        import pyarrow.csv as pc

        reading = pc.ReadOptions(
            column_names=self.header.names,
            skip_rows=self.header.empty_lines,
            skip_rows_after_names=int(self.header.present),
            block_size=min(self.path.stat().st_size + 1, BLOCK_BYTES),
        )
        parsing = pc.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)
        converting = pc.ConvertOptions(
            include_columns=list(names),
            column_types=dict.fromkeys(names, pa.binary()),
            null_values=[],
        )
        return pc.open_csv(self.path, reading, parsing, converting)

    def _changed(self) -> SourceError:
        return SourceError(f"{self.path}: has changed while it was read; run the command again")
