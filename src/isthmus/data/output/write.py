"""Writes restored rows to a file or a folder of images, completely or not at all."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from isthmus.data.formats import Format, format_names, format_of
from isthmus.data.formats.images import IMAGES
from isthmus.data.formats.values import named_by_target
from isthmus.data.schema import Schema
from isthmus.data.tables.restore import is_special
from isthmus.errors import RequestError, SourceError
from isthmus.files import replacing

PNG = ".png"


def write_rows(
    path: str | Path,
    values: Any,
    schema: Schema,
    *,
    row_names: Sequence[str] | None = None,
    force: bool = False,
) -> None:
    """Writes rows returned by `restore` in the format that the suffix of `path` names.

    A path without a suffix becomes a folder of PNG images, named after `row_names`. An existing
    file is replaced only with `force`, and a failed write leaves no partial file.

    Raises RequestError if the format cannot hold the rows, SourceError if writing fails.
    """
    target = Path(path)
    chosen = output_format(target)
    check_target(target, chosen)
    check_holds(target, schema)
    with (
        unwritable(target),
        replacing(target, folder=chosen.is_folder, force=force) as fresh,
        named_by_target(fresh, target),
    ):
        chosen.write(fresh, values, schema, row_names)


@contextmanager
def ending(stack: ExitStack, target: Path) -> Iterator[None]:
    """Closes the stack that writes to `target` after a block, with the error of the block if any.

    An error while closing is reported as a failed write; an error in the block is raised as it is.
    """
    try:
        yield
    except BaseException:
        if not stack.__exit__(*sys.exc_info()):
            raise
    else:
        with unwritable(target):
            stack.close()


@contextmanager
def unwritable(target: Path) -> Iterator[None]:
    """Turns an OSError of a write to `target` into one SourceError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or "not all of it could be written, so the disk may be full"
        raise SourceError(
            f"{target}: cannot be written ({reason}); free some space, check the folder's "
            "permissions, or choose another place"
        ) from error


def check_target(folder: Path, chosen: Format) -> None:
    """Raise RequestError if replacing a folder would delete files other than images."""
    if chosen.is_folder:
        check_replaceable(folder, (PNG,), "PNG image")


def check_replaceable(folder: Path, suffixes: Sequence[str], what: str) -> None:
    """Raise RequestError if a folder holds a file without one of these suffixes."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.lower().endswith(tuple(suffixes)):
            raise RequestError(
                f"{folder}: holds {path.relative_to(folder)}, which is not a {what} and would be "
                "lost, so it is not replaced; choose another name"
            )


def output_format(path: str | Path) -> Format:
    """The format that `write_rows` would use for `path`; RequestError for an unknown suffix."""
    target = Path(path)
    chosen = format_of(target)
    if not target.suffix:
        return chosen or IMAGES
    if chosen is None or chosen.is_folder:
        raise RequestError(
            f"{target}: the suffix {target.suffix!r} is not known; use one of {format_names()}, "
            "or a name without a suffix for a folder of images"
        )
    return chosen


def check_holds(target: Path, schema: Schema) -> None:
    """Raise RequestError if the format cannot hold the rows: their shape, or text and dates."""
    chosen = output_format(target)
    if chosen.holds_text:
        _check_table(target, schema)
    elif schema.columns is not None and not chosen.is_folder:
        _check_numbers(target, schema)


def _check_table(target: Path, schema: Schema) -> None:
    if len(schema.shape) != 1:
        others = format_names(lambda entry: not entry.holds_text)
        folder = ", or to a folder (a name without a dot)" * (schema.layout == "image")
        raise RequestError(
            f"{target}: rows of shape {schema.shape} do not fit a table; write them to "
            f"{others}{folder}"
        )


def _check_numbers(target: Path, schema: Schema) -> None:
    columns = schema.columns or ()
    dtypes = schema.dtypes * (len(columns) if len(schema.dtypes) == 1 else 1)
    for name, column, dtype in zip(schema.feature_names(), columns, dtypes, strict=True):
        if is_special(column, dtype):
            tables = format_names(lambda entry: entry.holds_text)
            raise RequestError(
                f"{target}: column {name!r} is {'dates' if column.role == 'datetime' else 'text'}, "
                f"and {target.suffix} holds only numbers; write to {tables}"
            )


def table_schema(names: Sequence[str], dtype: str = "float32") -> Schema:
    """The schema of an (n, len(names)) array with named columns, such as codes and scores."""
    return Schema(layout="table", shape=(len(names),), dtypes=(dtype,), names=tuple(names))
