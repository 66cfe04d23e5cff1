"""The byte offsets of the rows of a text table, from one pass that respects quotes."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isthmus.types import Array, Index

READ_BYTES = 1 << 22
SPAN_BYTES = 1 << 25
"""The largest size of a span in bytes, unless one row is longer."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
QUOTE, NEWLINE, RETURN, SPACE, TAB = map(ord, '"\n\r \t')


class Span(NamedTuple):
    """Consecutive rows of a file."""

    start: int
    """The first byte."""

    end: int
    """Past the last byte."""

    rows: int


class QuoteError(ValueError):
    """An error about a quote that opens a cell in `line` and is not closed properly."""

    def __init__(self, line: int, *, closed: bool) -> None:
        super().__init__(line)
        self.line, self.closed = line, closed


def spans(path: Path, delimiter: str, rows: int, skipped: int = 0) -> Iterator[Span]:
    """Spans of `rows` rows, or fewer if these are long.

    Empty lines do not count as rows, and the first `skipped` rows are left out.
    Raises QuoteError if the file ends inside a quoted cell, or if text follows the closing quote
    within the cell. A missing quote would otherwise turn rows into a part of the cell.
    """
    scan = _Scan(ord(delimiter))
    begin, last, count, to_skip = 0, 0, 0, skipped
    for starts, ends in scan.rows(path):
        next_row = min(to_skip, len(starts))
        to_skip -= next_row
        while next_row < len(starts):
            begin = begin if count else int(starts[next_row])
            fits = int(np.searchsorted(ends[next_row:], begin + SPAN_BYTES, side="right"))
            taken = min(rows - count, max(fits, 1 - min(count, 1)), len(starts) - next_row)
            next_row, count = next_row + taken, count + taken
            last = int(ends[next_row - 1]) if taken else last
            if count == rows or not taken:
                yield Span(begin, last, count)
                count = 0
    if count:
        yield Span(begin, last, count)


class _Scan:
    """One pass over the bytes of a file."""

    def __init__(self, delimiter: int) -> None:
        self.delimiter = delimiter
        self.inside, self.opened = False, 0
        """Whether the bytes so far end in a quoted cell, and the offset of its first byte."""

        self.before = NEWLINE
        self.begin = 0

    def rows(self, path: Path) -> Iterator[tuple[Index, Index]]:
        """The offsets of the first bytes of rows and past their last bytes, block by block."""
        offset = 0
        with path.open("rb") as file:
            while data := file.read(READ_BYTES):
                mark = len(BYTE_ORDER_MARK) if offset == 0 and data[:3] == BYTE_ORDER_MARK else 0
                self.begin += mark
                # A quote or carriage return at the end depends on the byte that follows it.
                while data.endswith((b'"', b"\r")) and (more := file.read(1)):
                    data += more
                bytes_read = np.frombuffer(data, np.uint8)
                ends = _line_ends(data, bytes_read)
                try:
                    ends = ends[~self._quoted(bytes_read, ends, offset, mark)] + offset
                except _BrokenError as broken:
                    raise QuoteError(line_number(path, broken.offset), closed=True) from None
                yield self._full(ends, bytes_read, offset)
                offset, self.before = offset + len(data), int(bytes_read[-1])
        if self.inside:
            raise QuoteError(line_number(path, self.opened), closed=False)
        if offset > self.begin:
            yield np.array([self.begin]), np.array([offset])

    def _full(self, ends: Index, bytes_read: Array, offset: int) -> tuple[Index, Index]:
        """The offsets of the rows that end in this block, without empty lines."""
        if not len(ends):
            return ends, ends
        starts = np.concatenate([[self.begin], ends[:-1] + 1])
        self.begin = int(ends[-1]) + 1
        length = ends - starts
        last_byte = ends - 1 - offset
        returns = (
            np.where(last_byte >= 0, bytes_read[np.maximum(last_byte, 0)], self.before) == RETURN
        )
        filled = length - (returns & (length > 0)) > 0
        return starts[filled], ends[filled] + 1

    def _quoted(self, bytes_read: Array, ends: Index, offset: int, mark: int) -> Array:
        """(ends,) bool: which line ends are inside quoted cells."""
        quotes = np.flatnonzero(bytes_read == QUOTE)
        inside = self.inside
        toggles = self._toggles(bytes_read, quotes, offset, mark)
        within = np.searchsorted(toggles, ends) % 2 == 1
        return np.asarray(within != inside)

    def _toggles(self, bytes_read: Array, quotes: Index, offset: int, mark: int) -> Index:
        """The quotes that open or close a cell."""
        if not len(quotes):
            return quotes
        before = np.where(quotes > 0, bytes_read[np.maximum(quotes - 1, 0)], self.before)
        if mark:
            before[quotes == mark] = NEWLINE
        opens = (before == self.delimiter) | (before == NEWLINE) | (before == RETURN)
        # If every quote that may open a cell does so, doubled quotes cancel out.
        doubled = np.concatenate([[False], np.diff(quotes) == 1])
        regular = bool((opens | doubled)[int(self.inside) :: 2].all())
        chosen = quotes if regular else self._one_by_one(bytes_read, quotes, opens)
        self._check_closing(bytes_read, chosen, offset)
        if len(chosen) % 2:
            self.inside = not self.inside
            if self.inside:
                self.opened = self._opening(chosen, len(chosen) - 1, offset)
        elif self.inside and len(chosen):
            self.opened = self._opening(chosen, len(chosen) - 1, offset)
        return chosen

    def _check_closing(self, bytes_read: Array, chosen: Index, offset: int) -> None:
        """Raise _BrokenError if text follows the closing quote of a cell."""
        closing = chosen[int(not self.inside) :: 2]
        after = bytes_read[np.minimum(closing + 1, len(bytes_read) - 1)]
        fine = (after == self.delimiter) | (after == NEWLINE) | (after == QUOTE) | (after == SPACE)
        fine |= (after == RETURN) | (after == TAB) | (closing + 1 == len(bytes_read))
        if not fine.all():
            number = int(np.argmin(fine)) * 2 + int(not self.inside)
            raise _BrokenError(self._opening(chosen, number - 1, offset))

    def _opening(self, chosen: Index, number: int, offset: int) -> int:
        """The offset of the quoted cell that quote `number` opens or continues."""
        while number >= 1 and chosen[number] - chosen[number - 1] == 1:
            number -= 2  # the second quote of two that stand for one
        return offset + int(chosen[number]) if number >= 0 else self.opened

    def _one_by_one(self, bytes_read: Array, quotes: Index, opens: Array) -> Index:
        """The quotes that open or close a cell, if some are inside unquoted cells."""
        chosen, inside, skip = [], self.inside, -1
        for quote, first in zip(quotes.tolist(), opens.tolist(), strict=True):
            if quote == skip:
                continue
            if inside and quote + 1 < len(bytes_read) and bytes_read[quote + 1] == QUOTE:
                skip = quote + 1
            elif inside or first:
                inside = not inside
                chosen.append(quote)
        return np.asarray(chosen, np.intp)


class _BrokenError(ValueError):
    """An error about text after the quoted cell that begins at byte `offset`."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


def line_number(path: Path, offset: int) -> int:
    """The number of the line that holds the byte at `offset`, counted from 1."""
    line, left, returned = 1, offset, False
    with path.open("rb") as file:
        while left and (data := file.read(min(left, READ_BYTES))):
            both = data.count(b"\r\n") + (returned and data[:1] == b"\n")
            line += data.count(b"\n") + data.count(b"\r") - both
            left, returned = left - len(data), data.endswith(b"\r")
    return line


def _line_ends(data: bytes, bytes_read: Array) -> Index:
    """The offsets of line ends: line feeds, and carriage returns without one, as in pyarrow."""
    feeds = bytes_read == NEWLINE
    if b"\r" in data:
        alone = bytes_read == RETURN
        alone[:-1] &= ~feeds[1:]
        feeds |= alone
    return np.flatnonzero(feeds)
