"""Restored rows go to a file or a folder of images: whole, or not at all."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from isthmus.data.formats import KNOWN, Format, format_of
from isthmus.data.formats.idx import IDX
from isthmus.data.formats.images import IMAGES
from isthmus.data.formats.npy import NPY
from isthmus.data.formats.npz import NPZ
from isthmus.data.formats.tensors import SAFETENSORS
from isthmus.data.schema import Schema
from isthmus.data.tables.restore import is_special
from isthmus.errors import RequestError, SourceError
from isthmus.files import replacing

PNG = ".png"
NUMBERS_ALONE = (NPY, NPZ, SAFETENSORS, IDX)


def write_rows(
    path: str | Path,
    values: Any,
    schema: Schema,
    *,
    row_names: Sequence[str] | None = None,
    force: bool = False,
) -> None:
    """Writes the rows that `restore` gave in the format that the suffix of `path` names.

    A path without a suffix becomes a folder of PNG images, named after `row_names`. Nothing is
    replaced without `force`, and what goes wrong on the way leaves nothing behind.

    Raises RequestError where the format cannot hold the rows, SourceError where writing fails.
    """
    target = Path(path)
    chosen = output_format(target)
    check_target(target, chosen)
    check_holds(target, schema)
    with unwritable(target), replacing(target, folder=chosen.folder, force=force) as fresh:
        _write_into(chosen, fresh, target, values, schema, row_names)


@contextmanager
def ending(stack: ExitStack, target: Path) -> Iterator[None]:
    """Close the stack that writes to `target` behind a block, in which it is told what went wrong.

    What fails while it closes is a failure to write; what fails in the block is not.
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
    """Turns what the system says of a failed write into one SourceError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or "not all of it could be written, so the disk may be full"
        raise SourceError(
            f"{target}: cannot be written ({reason}); free some space, check the folder's "
            "permissions, or choose another place"
        ) from error


def _write_into(
    chosen: Format,
    fresh: Path,
    target: Path,
    values: Any,
    schema: Schema,
    row_names: Sequence[str] | None,
) -> None:
    try:
        chosen.write(fresh, values, schema, row_names)
    except RequestError as error:  # people know the file by the name they gave
        raise RequestError(str(error).replace(str(fresh), str(target))) from error


def check_target(folder: Path, chosen: Format) -> None:
    """Raise RequestError where replacing a folder would lose more than what we write there."""
    if chosen.folder:
        check_replaceable(folder, (PNG,), "PNG image")


def check_replaceable(folder: Path, suffixes: Sequence[str], what: str) -> None:
    """Raise RequestError where a folder holds a file that has none of these suffixes."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.lower().endswith(tuple(suffixes)):
            raise RequestError(
                f"{folder}: holds {path.relative_to(folder)}, which is no {what} and would be "
                "lost, so it is not replaced; choose another name"
            )


def output_format(path: str | Path) -> Format:
    """The format that `write_rows` would use for `path`; RequestError where there is none."""
    target = Path(path)
    if not target.suffix:
        return format_of(target) or IMAGES
    found = format_of(target)
    if found is None or found.folder:
        raise RequestError(
            f"{target}: the suffix {target.suffix!r} is not known; use one of {KNOWN}, or a name "
            "without a suffix for a folder of images"
        )
    return found


def check_holds(target: Path, schema: Schema) -> None:
    """Raise RequestError where rows hold text or dates, and the format numbers alone."""
    if schema.columns is None or output_format(target) not in NUMBERS_ALONE:
        return
    remedy = f"and {target.suffix} holds numbers alone; write to .csv, .tsv or .parquet"
    dtypes = schema.dtypes * (len(schema.columns) if len(schema.dtypes) == 1 else 1)
    for name, column, dtype in zip(schema.feature_names(), schema.columns, dtypes, strict=True):
        if is_special(column, dtype):
            what = "dates" if column.role == "datetime" else "text"
            raise RequestError(f"{target}: column {name!r} is {what}, {remedy}")


def table_schema(names: Sequence[str], dtype: str = "float32") -> Schema:
    """The schema of an (n, len(names)) array with named columns, such as codes and scores."""
    return Schema(layout="table", shape=(len(names),), dtypes=(dtype,), names=tuple(names))
