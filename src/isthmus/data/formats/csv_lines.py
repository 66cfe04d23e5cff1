"""Where the rows of a text table begin, found in one pass that respects quotes."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isthmus.types import Array, Index

READ_BYTES = 1 << 22
SPAN_BYTES = 1 << 25
"""A span is no longer, unless a row is."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
QUOTE, NEWLINE, RETURN, SPACE, TAB = map(ord, '"\n\r \t')


class Span(NamedTuple):
    """Some rows that follow one another in a file."""

    start: int
    """The first byte."""

    end: int
    """Past the last byte."""

    rows: int


class QuoteError(ValueError):
    """A quote that opens a cell in `line`, and is not closed as it should be."""

    def __init__(self, line: int, *, closed: bool) -> None:
        super().__init__(line)
        self.line, self.closed = line, closed


def spans(path: Path, delimiter: str, rows: int, skipped: int = 0) -> Iterator[Span]:
    """Spans of `rows` rows, fewer where those are long; empty lines are none, `skipped` rows go.

    Raises QuoteError where the file ends inside a quoted cell, or text follows one before its cell
    ends: then a quote was forgotten, and rows would be taken for a part of the cell.
    """
    scan = _Scan(ord(delimiter))
    begin, last, count, left = 0, 0, 0, skipped
    for starts, ends in scan.rows(path):
        at = min(left, len(starts))
        left -= at
        while at < len(starts):
            begin = begin if count else int(starts[at])
            fits = int(np.searchsorted(ends[at:], begin + SPAN_BYTES, side="right"))
            taken = min(rows - count, max(fits, 1 - min(count, 1)), len(starts) - at)
            at, count = at + taken, count + taken
            last = int(ends[at - 1]) if taken else last
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
        """Whether the bytes so far end in a quoted cell, and where that began."""

        self.before = NEWLINE
        self.begin = 0

    def rows(self, path: Path) -> Iterator[tuple[Index, Index]]:
        """The first byte of rows and the one past their end, a few at a time."""
        offset = 0
        with path.open("rb") as file:
            while data := file.read(READ_BYTES):
                mark = len(BYTE_ORDER_MARK) if offset == 0 and data[:3] == BYTE_ORDER_MARK else 0
                self.begin += mark
                # What is at the end is judged by the byte that follows it.
                while data.endswith((b'"', b"\r")) and (more := file.read(1)):
                    data += more
                found = np.frombuffer(data, np.uint8)
                ends = _line_ends(data, found)
                try:
                    ends = ends[~self._quoted(found, ends, offset, mark)] + offset
                except _BrokenError as broken:
                    raise QuoteError(line_number(path, broken.offset), closed=True) from None
                yield self._full(ends, found, offset)
                offset, self.before = offset + len(data), int(found[-1])
        if self.inside:
            raise QuoteError(line_number(path, self.opened), closed=False)
        if offset > self.begin:
            yield np.array([self.begin]), np.array([offset])

    def _full(self, ends: Index, found: Array, offset: int) -> tuple[Index, Index]:
        """The rows that end here, without those that are empty lines."""
        if not len(ends):
            return ends, ends
        starts = np.concatenate([[self.begin], ends[:-1] + 1])
        self.begin = int(ends[-1]) + 1
        length = ends - starts
        at = ends - 1 - offset
        returns = np.where(at >= 0, found[np.maximum(at, 0)], self.before) == RETURN
        filled = length - (returns & (length > 0)) > 0
        return starts[filled], ends[filled] + 1

    def _quoted(self, found: Array, ends: Index, offset: int, mark: int) -> Array:
        """(ends,) bool: which line ends stand in quoted cells."""
        quotes = np.flatnonzero(found == QUOTE)
        inside = self.inside
        toggles = self._toggles(found, quotes, offset, mark)
        within = np.searchsorted(toggles, ends) % 2 == 1
        return np.asarray(within != inside)

    def _toggles(self, found: Array, quotes: Index, offset: int, mark: int) -> Index:
        """The quotes that open or close a cell."""
        if not len(quotes):
            return quotes
        before = np.where(quotes > 0, found[np.maximum(quotes - 1, 0)], self.before)
        if mark:
            before[quotes == mark] = NEWLINE
        opens = (before == self.delimiter) | (before == NEWLINE) | (before == RETURN)
        # Where every quote that may open a cell does so, doubled ones cancel out.
        doubled = np.concatenate([[False], np.diff(quotes) == 1])
        regular = bool((opens | doubled)[int(self.inside) :: 2].all())
        chosen = quotes if regular else self._one_by_one(found, quotes, opens)
        self._check_closing(found, chosen, offset)
        if len(chosen) % 2:
            self.inside = not self.inside
            if self.inside:
                self.opened = self._opening(chosen, len(chosen) - 1, offset)
        elif self.inside and len(chosen):
            self.opened = self._opening(chosen, len(chosen) - 1, offset)
        return chosen

    def _check_closing(self, found: Array, chosen: Index, offset: int) -> None:
        """Raise where text follows a quoted cell."""
        closing = chosen[int(not self.inside) :: 2]
        after = found[np.minimum(closing + 1, len(found) - 1)]
        fine = (after == self.delimiter) | (after == NEWLINE) | (after == QUOTE) | (after == SPACE)
        fine |= (after == RETURN) | (after == TAB) | (closing + 1 == len(found))
        if not fine.all():
            at = int(np.argmin(fine)) * 2 + int(not self.inside)
            raise _BrokenError(self._opening(chosen, at - 1, offset))

    def _opening(self, chosen: Index, at: int, offset: int) -> int:
        """The byte at which the cell began that quote number `at` opens, or opens again."""
        while at >= 1 and chosen[at] - chosen[at - 1] == 1:
            at -= 2  # the second quote of two that stand for one
        return offset + int(chosen[at]) if at >= 0 else self.opened

    def _one_by_one(self, found: Array, quotes: Index, opens: Array) -> Index:
        """The same where some quotes stand inside of cells that are not quoted."""
        chosen, inside, skip = [], self.inside, -1
        for quote, first in zip(quotes.tolist(), opens.tolist(), strict=True):
            if quote == skip:
                continue
            if inside and quote + 1 < len(found) and found[quote + 1] == QUOTE:
                skip = quote + 1
            elif inside or first:
                inside = not inside
                chosen.append(quote)
        return np.asarray(chosen, np.intp)


class _BrokenError(ValueError):
    """Text follows a quoted cell that began at byte `offset`."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


def line_number(path: Path, offset: int) -> int:
    """The number of the line, from 1, that holds a byte."""
    line, left, returned = 1, offset, False
    with path.open("rb") as file:
        while left and (data := file.read(min(left, READ_BYTES))):
            both = data.count(b"\r\n") + (returned and data[:1] == b"\n")
            line += data.count(b"\n") + data.count(b"\r") - both
            left, returned = left - len(data), data.endswith(b"\r")
    return line


def _line_ends(data: bytes, found: Array) -> Index:
    """Where lines end: at a line feed, or a carriage return without one, as pyarrow has it."""
    feeds = found == NEWLINE
    if b"\r" in data:
        alone = found == RETURN
        alone[:-1] &= ~feeds[1:]
        feeds |= alone
    return np.flatnonzero(feeds)
