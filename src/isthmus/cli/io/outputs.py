"""Where results go: places checked before the work, files written whole or not at all."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.errors import RequestError
from isthmus.files import check_writable, replacing

if TYPE_CHECKING:
    from isthmus.types import Array  # isthmus.types imports torch


FILE = "file"
"""The column that says which image a row came from."""

TEXT_HAS_A_PLACE = (".csv", ".tsv", ".parquet", ".pq")


def free_place(path: str, *, force: bool, check: Callable[..., None] = check_writable) -> Path:
    """The path, once it is sure that it may be written.

    Raises RequestError where it exists (unless `force`), or its folder does not or is closed to us.
    """
    target = Path(path)
    if target.name in ("", ".."):
        raise RequestError(f"{path}: give the output a name of its own, as in results/first")
    check(target, force=force)
    if not target.parent.is_dir():
        raise RequestError(f"{target}: the folder {target.parent} does not exist; create it first")
    if not os.access(target.parent, os.W_OK):
        raise RequestError(
            f"{target}: the folder {target.parent} may not be written to; choose another"
        )
    return target


def free_file(path: str, *, force: bool, suffix: str | None = None) -> Path:
    """As `free_place`, for a file, perhaps of one `suffix` only."""
    target = free_place(path, force=force)
    if target.is_dir():
        raise RequestError(f"{target}: is a folder; give the name of a file")
    if suffix is not None and target.suffix.lower() != suffix:
        raise RequestError(f"{target}: the name must end in {suffix}")
    return target


def free_table(path: str, *, force: bool) -> Path:
    """As `free_file`, for a table in a format that is known."""
    from isthmus.data.output.write import output_format

    target = free_file(path, force=force)
    if output_format(target).folder:
        raise RequestError(f"{target}: has no suffix; give one, such as .parquet, .csv or .npy")
    return target


def check_apart(target: Path, model: str, data: str) -> None:
    """Raise RequestError where `target` is or lies in what is read, or in the model's folder."""
    place = target.resolve()
    if Path(model).resolve() in (place, *place.parents):
        raise RequestError(f"{target}: lies in the model's own folder; choose another place")
    check_unread(target, data)


def check_unread(target: Path, data: str) -> None:
    """Raise RequestError where `target` is what is read, or lies in it."""
    from isthmus.data.open import split_member

    place, read = target.resolve(), split_member(data)[0].resolve()
    if read == place:
        raise RequestError(f"{target}: is what is read from; choose another name")
    if read in place.parents:
        raise RequestError(f"{target}: lies in the folder that is read from; choose another place")


def free_rows(path: str, *, force: bool) -> Path:
    """As `free_place`, for rows of any kind: a file, or a folder of images or of recordings.

    Even `force` replaces no folder that holds anything else.
    """
    from isthmus.data.output.write import PNG, check_replaceable, output_format
    from isthmus.data.recording_files import SUFFIXES

    target = free_place(path, force=force)
    if not output_format(target).folder:
        return free_file(path, force=force)
    check_replaceable(target, (PNG, *SUFFIXES), "PNG image or recording")
    return target


@contextmanager
def writing_table(
    path: Path,
    columns: Sequence[str],
    n_rows: int,
    beside: Mapping[str, Sequence[Any]],
    *,
    force: bool,
) -> Iterator[Callable[["Array"], None]]:
    """What takes one block of named columns of numbers after the other, `n_rows` in all.

    First comes what stands `beside` the numbers, one value a row, where text has a place.
    """
    from isthmus.data import appending_rows, table_schema

    named = bool(beside) and path.suffix.lower() in TEXT_HAS_A_PLACE
    schema, done = table_schema((*beside, *columns) if named else columns), 0
    with appending_rows(path, schema, n_rows, force=force) as append:

        def write(values: "Array") -> None:
            nonlocal done
            table: Any = values
            if named:
                import pyarrow as pa

                numbers = {name: values[:, index] for index, name in enumerate(columns)}
                told = {name: some[done : done + len(values)] for name, some in beside.items()}
                table = pa.table({**told, **numbers})
            append(table)
            done += len(values)

        yield write


def write_text(path: Path, text: str, *, force: bool) -> None:
    """Writes one text file."""
    from isthmus.cli.exit_codes import writing

    with writing(path), replacing(path, force=force) as fresh:
        fresh.write_text(text, encoding="utf-8")
