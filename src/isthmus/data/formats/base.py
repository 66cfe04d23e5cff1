"""What every file format offers: does this path match, read it, write it."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from isthmus.data.schema import Layout, Schema
from isthmus.errors import IsthmusError, RequestError, SourceError
from isthmus.types import Source

RowNames = Sequence[str] | None


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
    """What the axes of a row mean, where the shape does not tell."""

    header: bool | None = None
    """Whether the first line of a text table holds names; None: unless it is all numbers."""

    roles: tuple[tuple[str, str], ...] = ()
    """What some columns of a table mean, by name."""

    missing: tuple[str, ...] = ()
    """Words that stand for a missing value in a text table, beside the usual ones."""

    stream: bool | None = None
    """Whether the rows stay on disk; None: where they are many."""

    def check(self, understood: frozenset[str], origin: str, what: str) -> None:
        """Raise RequestError where an option is given that `what` does not understand."""
        for name, default in self._field_defaults.items():
            value = getattr(self, name)
            if value != default and name not in understood:
                raise RequestError(
                    f"{origin}: {name}={value!r} has no meaning for {what}; leave it out"
                )


class Format(NamedTuple):
    """One way to keep rows on disk."""

    matches: Callable[[Path], bool]
    """Whether a path is of this format, judged by its name (or by being a folder)."""

    read: Callable[[Path, Options], Source]
    """A source over the file; every fault is a SourceError that starts with the path."""

    write: Callable[[Path, Any, Schema, RowNames], None]
    """Writes restored rows to a path that is not there yet."""

    understands: frozenset[str] = frozenset({"layout"})
    """The options that mean something here."""

    folder: bool = False
    """Whether it is a folder of files rather than one file."""


def ends_with(*suffixes: str) -> Callable[[Path], bool]:
    """A test for paths whose name ends in one of `suffixes`, in any case."""
    return lambda path: path.name.lower().endswith(suffixes)


@contextmanager
def damaged(path: Path, what: str, *errors: type[Exception]) -> Iterator[None]:
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
    """The first line of an error's message, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def choose_member(path: Path, member: str | None, shapes: dict[str, tuple[int, ...]]) -> str:
    """The member to read: the one named, or the only one."""
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
