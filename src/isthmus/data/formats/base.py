"""The record that describes a file format, and the options for reading one."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from isthmus.data.schema import Layout, Schema
from isthmus.data.source import Source
from isthmus.errors import IsthmusError, RequestError, SourceError
from isthmus.types import Array

RowNames = Sequence[str] | None
Append = Callable[[Any], None]
"""Writes one block of restored rows."""


class Options(NamedTuple):
    """How to read rows; each format or container uses some of these and refuses the others."""

    member: str | None = None
    """Which array of a file that holds several."""

    columns: tuple[str, ...] | None = None
    """The columns of a table to keep, by name and in this order."""

    drop: tuple[str, ...] = ()
    """The columns of a table to leave out, by name."""

    resize: tuple[int, int] | None = None
    """(height, width) to bring every image to."""

    layout: Layout | None = None
    """What the axes of a row mean, if the shape alone does not determine it."""

    header: bool | None = None
    """Whether the first line of a text table holds names; None: unless it is all numbers."""

    roles: tuple[tuple[str, str], ...] = ()
    """What some columns of a table mean, by name."""

    missing: tuple[str, ...] = ()
    """Words for a missing value in a text table, in addition to the usual ones."""

    stream: bool | None = None
    """Whether the rows stay on disk; None: if there are many."""

    schema: Schema | None = None
    """The schema of a fitted model, whose columns the file is read as, without inference."""

    @property
    def columns_schema(self) -> Schema | None:
        """`schema`, if its columns have names."""
        return None if self.schema is None or self.schema.names is None else self.schema

    def check(self, understood: frozenset[str], origin: str, what: str) -> None:
        """Raise RequestError if an option is given that `what` does not support."""
        for name, default in self._field_defaults.items():
            value = getattr(self, name)
            if value != default and name not in understood:
                raise RequestError(
                    f"{origin}: {name}={value!r} has no meaning for {what}; leave it out"
                )


class NewFile(NamedTuple):
    """A file that is being written block by block."""

    path: Path
    """Where it is written; it is moved to `target` once it is complete."""

    target: Path
    """The path the user named, for messages."""

    schema: Schema
    """The schema of the rows."""

    n_rows: int
    """How many rows there will be."""

    row_names: RowNames
    """The name of each row, or None."""


class Header(NamedTuple):
    """The column names of a table file."""

    names: tuple[str, ...]

    present: bool = True
    """Whether the file holds the names; otherwise they are column_0, column_1, ..."""

    empty_lines: int = 0
    """How many empty lines precede them."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format: how it is recognized, read and written, and what it can hold.

    Everything that depends on the format of a file is a field here; FORMATS lists the formats.
    """

    suffixes: tuple[str, ...]
    """The suffixes of its files in lower case, the usual one first.

    For a folder format, they are those of the files in the folder."""

    read: Callable[[Path, Options], Source]
    """Opens the file as a source; every error is a SourceError that starts with the path."""

    write: Callable[[Path, Any, Schema, RowNames], None]
    """Writes restored rows to a path that does not exist yet."""

    append: Callable[[NewFile], AbstractContextManager[Append]] | None = None
    """Opens a file for writing block by block, or None: blocks are then collected for `write`."""

    match: Callable[[Path], bool] | None = None
    """Whether a path has this format, if its suffix alone does not decide."""

    understands: frozenset[str] = frozenset({"layout"})
    """The names of the `Options` that it supports."""

    is_folder: bool = False
    """Whether it is a folder of files rather than one file."""

    label: str = ""
    """What messages call it; "": its usual suffix."""

    delimiter: str | None = None
    """The character between the cells of a text table, or None if it is not a text table."""

    read_header: Callable[[Path, bool | None], Header] | None = None
    """Reads the column names of a table; the flag is `Options.header`. None: not a table."""

    read_columns: Callable[[Path, Sequence[str], bool | None, bool], Any] | None = None
    """Reads named columns of a table as a pyarrow Table. None: not a table.

    The flags are `Options.header` and whether text cells stay as they are written."""

    read_array: Callable[[Path, str | None], Array] | None = None
    """Reads an array of any dtype, perhaps of one member, as labels. None: not supported."""

    holds_recordings: bool = True
    """Whether a file may hold one recording; it then understands "layout"."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.label or self.suffixes[0]

    @property
    def holds_text(self) -> bool:
        """Whether it is a table whose columns may hold text and dates, not only numbers."""
        return self.read_header is not None

    @property
    def holds_labels(self) -> bool:
        """Whether labels can be read from it."""
        return self.read_array is not None or self.holds_text

    @property
    def has_members(self) -> bool:
        """Whether a file may hold several named arrays."""
        return "member" in self.understands

    @property
    def streams(self) -> bool:
        """Whether rows may stay on disk and be read block by block."""
        return "stream" in self.understands

    def matches(self, path: Path) -> bool:
        """Whether `path` has this format."""
        return self.has_suffix(path.name) if self.match is None else self.match(path)

    def has_suffix(self, name: str) -> bool:
        """Whether a file name ends in one of the suffixes, in upper or lower case."""
        return name.lower().endswith(self.suffixes)


@contextmanager
def damage_reported(path: Path, what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn the `errors` a reader raises on a broken file into one line about `path`."""
    broken: tuple[type[Exception], ...] = (EOFError, zlib.error, *errors)
    try:
        yield
    except IsthmusError:
        raise
    except broken as error:
        raise SourceError(
            f"{path}: this is not {what}, or it is truncated or damaged ({first_line(error)}); "
            "check where it came from, or copy or download it again"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def choose_member(path: Path, member: str | None, shapes: dict[str, tuple[int, ...]]) -> str:
    """The name of the member to read: `member`, or the only one in the file."""
    if member is None and len(shapes) == 1:
        return next(iter(shapes))
    inside = ", ".join(f"{name!r} {shape}" for name, shape in shapes.items())
    if not shapes:
        raise SourceError(f"{path}: holds no arrays; write at least one into it")
    if member is None:
        raise SourceError(
            f"{path}: holds {len(shapes)} arrays: {inside}; choose one with "
            f"member={next(iter(shapes))!r} or {path.name}:{next(iter(shapes))}"
        )
    if member not in shapes:
        raise SourceError(f"{path}: holds no array named {member!r}; it holds {inside}")
    return member
