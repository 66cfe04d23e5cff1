"""Where results are written: paths checked before the work, files written whole or not at all."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.errors import RequestError
from isthmus.files import check_writable, replacing

if TYPE_CHECKING:
    from isthmus.types import Array  # isthmus.types imports torch


FILE_COLUMN = "file"
"""The column with the image file that a row came from."""


def holds_text(path: Path) -> bool:
    """Whether a file of this name is a table that can hold text columns, such as .csv."""
    from isthmus.data.formats import format_of

    chosen = format_of(path)
    return chosen is not None and chosen.holds_text and not chosen.is_folder


def text_formats() -> str:
    """The table formats that can hold text columns, for messages."""
    from isthmus.data.formats import format_names

    return format_names(lambda entry: entry.holds_text)


def output_path(path: str, *, force: bool, check: Callable[..., None] = check_writable) -> Path:
    """The path, checked to be writable.

    Raises RequestError if it exists (unless `force`), or its folder is missing or read-only.
    """
    target = Path(path)
    if target.name in ("", ".."):
        raise RequestError(f"{path}: give a name for the output, as in results/model")
    check(target, force=force)
    if not target.parent.is_dir():
        raise RequestError(f"{target}: the folder {target.parent} does not exist; create it first")
    if not os.access(target.parent, os.W_OK):
        raise RequestError(
            f"{target}: no permission to write to the folder {target.parent}; choose another"
        )
    return target


def output_file(path: str, *, force: bool, suffix: str | None = None) -> Path:
    """As `output_path`, for a file, optionally with a required `suffix`."""
    target = output_path(path, force=force)
    if target.is_dir():
        raise RequestError(f"{target}: is a folder; give the name of a file")
    if suffix is not None and target.suffix.lower() != suffix:
        raise RequestError(f"{target}: the name must end in {suffix}")
    return target


def output_table(path: str, *, force: bool) -> Path:
    """As `output_file`, for a table in a format that isthmus writes."""
    from isthmus.data.output.write import output_format

    target = output_file(path, force=force)
    if output_format(target).is_folder:
        raise RequestError(f"{target}: has no suffix; give one, such as .parquet, .csv or .npy")
    return target


def check_output_location(target: Path, model: str, data: str) -> None:
    """Raise RequestError if `target` would be written into the model folder or the input."""
    path = target.resolve()
    if Path(model).resolve() in (path, *path.parents):
        raise RequestError(f"{target}: is in the model folder; choose another output path")
    check_not_input(target, data)


def check_not_input(target: Path, data: str) -> None:
    """Raise RequestError if `target` is the input, or is in the input folder."""
    from isthmus.data.open import split_member

    path, input_path = target.resolve(), split_member(data)[0].resolve()
    if input_path == path:
        raise RequestError(f"{target}: is also the input; choose another output path")
    if input_path in path.parents:
        raise RequestError(f"{target}: is in the input folder; choose another output path")


def output_rows(path: str, *, force: bool) -> Path:
    """As `output_path`, for rows of any kind: a file, or a folder of images or recordings.

    A folder that holds other files is not replaced, even with `force`.
    """
    from isthmus.data.formats import recording_suffixes
    from isthmus.data.output.write import PNG, check_replaceable, output_format

    target = output_path(path, force=force)
    if not output_format(target).is_folder:
        return output_file(path, force=force)
    check_replaceable(target, (PNG, *recording_suffixes()), "PNG image or recording")
    return target


@contextmanager
def table_writer(
    path: Path,
    columns: Sequence[str],
    n_rows: int,
    id_columns: Mapping[str, "Sequence[object] | Array"],
    *,
    force: bool,
) -> Iterator[Callable[["Array"], None]]:
    """A function that appends a block (B, len(columns)) of numbers to a table of `n_rows` rows.

    The `id_columns`, one value per row, come first if the format can hold text.
    """
    from isthmus.data.output.append import appending_rows
    from isthmus.data.output.write import table_schema

    has_ids = bool(id_columns) and holds_text(path)
    schema, done = table_schema((*id_columns, *columns) if has_ids else columns), 0
    with appending_rows(path, schema, n_rows, force=force) as append:

        def write(values: "Array") -> None:
            nonlocal done
            stop = done + len(values)
            if has_ids:
                import pyarrow as pa

                ids = {name: column[done:stop] for name, column in id_columns.items()}
                numbers = {name: values[:, index] for index, name in enumerate(columns)}
                append(pa.table({**ids, **numbers}))
            else:
                append(values)
            done = stop

        yield write


def write_text(path: Path, text: str, *, force: bool) -> None:
    """Writes one text file."""
    from isthmus.cli.exit_codes import explain_write_errors

    with explain_write_errors(path), replacing(path, force=force) as fresh:
        fresh.write_text(text, encoding="utf-8")
