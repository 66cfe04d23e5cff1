"""Open a file, a folder, an array or a table as a Source."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import narwhals as nw
import numpy as np
import torch

from isthmus.data.arrays import (
    IN_MEMORY,
    array_source,
    data_error,
    is_sparse,
    sparse_source,
    tensor_source,
    unmasked,
)
from isthmus.data.columns import ALL_COLUMNS
from isthmus.data.formats import FORMATS, Format, Options, format_names, format_of
from isthmus.data.formats.images import IMAGES
from isthmus.data.schema import Layout, Schema
from isthmus.data.signals.recordings import cut_recordings, is_series, recordings_from_data
from isthmus.data.source import Source
from isthmus.data.tables.frames import frame_source
from isthmus.data.tables.roles import declared
from isthmus.errors import RequestError, SourceError
from isthmus.types import Array

NOTHING: frozenset[str] = frozenset()
LAYOUT, ROLES = frozenset({"layout"}), frozenset({"roles"})
NO_ROLES: Mapping[str, str] = MappingProxyType({})


def open_source(
    data: Any,
    *,
    member: str | None = None,
    columns: str | Sequence[str] | None = None,
    drop: str | Sequence[str] = (),
    resize: int | tuple[int, int] | None = None,
    layout: Layout | None = None,
    header: bool | None = None,
    roles: str | Mapping[str, str] = NO_ROLES,
    missing: str | Sequence[str] = (),
    stream: bool | None = None,
    schema: Schema | None = None,
) -> Source:
    """Open rows as a source.

    An option that does not apply to `data` is refused.

    Parameters:
        data: A path, an array, a tensor, a sparse matrix, a table or a source. The path is that of
            a file, or of a folder of images or of Parquet files.
        member: The array to read from a .npz or .safetensors file; "file.npz:member" works too.
        columns: The columns of a table to keep.
        drop: The columns of a table to leave out.
        resize: The size to bring images to: one number, or (height, width).
        layout: What the axes of a row mean: "table", "signal" or "image"; see `array_source`.
        header: Whether the first line of a CSV file holds names; by default it is detected.
        roles: What columns of a table mean, by name: "numeric", "count", "boolean", "categorical",
            "ordinal", "datetime", or "identifier" for a column to leave out. Other columns are
            inferred. A single role, or that of "*", applies to all columns. Columns of an array are
            "0", "1", ..., each numeric, count or boolean.
        missing: Words for missing values in a text file, besides the usual ones.
        stream: Whether the rows of a file stay on disk; by default if they would take more than
            256 MiB.
        schema: The schema of a fitted model. The columns of a table file are read as the model's,
            without inference, and others are left out.

    Raises:
        SourceError: The file cannot be read.
        DataError: Rows in memory cannot be used.
        RequestError: An option is invalid.

    Example:
        >>> import numpy as np
        >>> from isthmus.data import open_source
        >>> source = open_source(np.arange(12.0).reshape(4, 3))
        >>> len(source), source.read(np.array([0, 3])).tolist()
        (4, [[0.0, 1.0, 2.0], [9.0, 10.0, 11.0]])
    """
    options = Options(
        member=member,
        columns=None if columns is None else _names(columns),
        drop=_names(drop),
        resize=_size(resize),
        layout=layout,
        header=header,
        roles=tuple(({ALL_COLUMNS: roles} if isinstance(roles, str) else roles).items()),
        missing=_names(missing),
        stream=stream,
        schema=schema,
    )
    if isinstance(data, (str, os.PathLike)):
        return _open_path(str(os.fspath(data)), options)
    return _open_object(data, options)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(map(str, given))


def _size(resize: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if resize is None:
        return None
    size = (resize, resize) if isinstance(resize, int) else tuple(resize)
    if len(size) != 2 or min(size) < 1:
        raise RequestError(f"resize={resize!r} must be a positive number, or (height, width)")
    return size


def _open_path(text: str, options: Options) -> Source:
    path, member = split_member(text)
    if member is not None and options.member is None:
        options = options._replace(member=member)
    path_format = _format_of_existing(path)
    understood = path_format.understands
    if "schema" not in understood:
        options = options._replace(schema=None)
    options.check(understood, str(path), f"{path.suffix or 'a folder of images'}")
    try:
        source = path_format.read(path, options)
    except PermissionError as error:
        raise SourceError(f"{path}: permission denied; make the file readable") from error
    # Formats with named columns apply the roles while they read.
    return source if "columns" in understood else declared(source, dict(options.roles))


def split_member(text: str) -> tuple[Path, str | None]:
    """The path and the member of "file.npz:member"; None if no member is named."""
    if Path(text).exists():
        return Path(text), None
    with_members = (entry for entry in FORMATS.values() if entry.has_members)
    for suffix in (suffix for entry in with_members for suffix in entry.suffixes):
        head, colon, member = text.partition(f"{suffix}:")
        if colon:
            return Path(head + suffix), member
    return Path(text), None


def _format_of_existing(path: Path) -> Format:
    """The format of a path that exists and can be read."""
    if not path.exists():
        raise SourceError(f"{path}: there is no such file or folder; check the path")
    path_format = format_of(path)
    if path.is_dir():
        if path_format is None or not path_format.is_folder:
            raise SourceError(f"{path}: is a folder, and its name says it is a file; give the file")
        return path_format
    if path_format is None:
        raise SourceError(f"{path}: {_unknown(path)}")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SourceError(f"{path}: cannot be read ({reason}); check its permissions") from error
    if empty:
        raise SourceError(f"{path}: the file is empty; write it again, or give another")
    return path_format


def _unknown(path: Path) -> str:
    if IMAGES.has_suffix(path.name):
        return "is a single image; give the folder that holds the images"
    what = f"the suffix {path.suffix!r} is not known" if path.suffix else "the name has no suffix"
    return f"{what}; use one of {format_names()}, or {IMAGES.name}"


def _open_object(data: Any, options: Options) -> Source:
    if hasattr(data, "collect"):
        raise data_error(
            IN_MEMORY, f"a {type(data).__name__} holds no rows yet; call .collect() on it first"
        )
    if isinstance(data, Source):
        options.check(NOTHING, data.origin, "a source that is open already")
        return data
    if nw.dependencies.is_into_dataframe(data):
        options.check(LAYOUT | {"columns", "drop", "roles"}, IN_MEMORY, "a table in memory")
        return frame_source(
            data,
            columns=options.columns,
            drop=options.drop,
            layout=options.layout,
            roles=dict(options.roles),
        )
    if is_sparse(data):
        options.check(ROLES, IN_MEMORY, "a sparse matrix")
        return declared(sparse_source(data), dict(options.roles))
    if isinstance(data, torch.Tensor):
        options.check(LAYOUT | ROLES, IN_MEMORY, "a tensor")
        return declared(tensor_source(data, layout=options.layout), dict(options.roles))
    if is_series(data):
        options.check(NOTHING, IN_MEMORY, "a list of series")
        return cut_recordings(recordings_from_data(data), None, None)
    options.check(LAYOUT | ROLES, IN_MEMORY, "an array")
    return declared(array_source(_as_array(data), layout=options.layout), dict(options.roles))


def _as_array(data: Any) -> Array:
    if isinstance(data, np.ma.MaskedArray):
        return unmasked(data)
    if not (hasattr(data, "__array__") or isinstance(data, (list, tuple))):
        formats = ", ".join(FORMATS)
        raise data_error(
            IN_MEMORY,
            f"cannot read rows from a {type(data).__name__}; give an array, a tensor, a sparse "
            f"matrix, a pandas, polars or pyarrow table, or the path of one of: {formats}",
        )
    try:
        return np.asarray(data)
    except ValueError as error:
        raise data_error(
            IN_MEMORY, f"the rows differ in length ({error}); make them equally long"
        ) from error
