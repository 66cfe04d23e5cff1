"""Anything that holds rows - a file, a folder, an array, a table - becomes a Source."""

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
    fault,
    is_sparse,
    sparse_source,
    tensor_source,
    unmasked,
)
from isthmus.data.columns import EVERY
from isthmus.data.formats import FORMATS, KNOWN, Format, Options, format_of
from isthmus.data.schema import Layout, Schema
from isthmus.data.signals.recordings import cut, is_series, recordings_of
from isthmus.data.tables.frames import frame_source
from isthmus.data.tables.roles import declared
from isthmus.errors import RequestError, SourceError
from isthmus.types import Array, Source

WITH_MEMBERS = (".npz", ".safetensors")
PICTURES = (".png", ".jpg", ".jpeg")
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
) -> Source:
    """A source over `data`: a path, an array, a tensor, a sparse matrix, a table or a source.

    `member` chooses an array of a .npz or .safetensors file ("file.npz:member" does too),
    `columns` keeps and `drop` leaves out columns of a table, `resize` brings images to one size
    (one number, or height and width), `layout` says what the axes of a row mean, `header` whether
    a CSV begins with names, `missing` what words it has for missing values beside the usual ones.
    `roles` says by name what columns of a table mean: one of `columns.ROLES`, or "identifier" for
    one to leave out; the others are recognised. One role alone is that of all columns, as is that
    of "*"; columns of an array are "0", "1", ..., each numeric, count or boolean. `stream` says
    whether the rows of a file stay on disk; None: where they would take more than 256 MiB. An
    option that means nothing for `data` is refused.

    Raises SourceError about a file, DataError about rows in memory, RequestError about options.
    """
    options = Options(
        member=member,
        columns=None if columns is None else _names(columns),
        drop=_names(drop),
        resize=_size(resize),
        layout=layout,
        header=header,
        roles=tuple(({EVERY: roles} if isinstance(roles, str) else roles).items()),
        missing=_names(missing),
        stream=stream,
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
    found = _existing(path)
    options.check(found.understands, str(path), f"{path.suffix or 'a folder of images'}")
    try:
        source = found.read(path, options)
    except PermissionError as error:
        raise SourceError(f"{path}: may not be read; change its permissions") from error
    # Columns that have names are told apart while they are read.
    return source if "columns" in found.understands else declared(source, dict(options.roles))


def split_member(text: str) -> tuple[Path, str | None]:
    """The path and the member of "file.npz:member"; None where no member is named."""
    if Path(text).exists():
        return Path(text), None
    for suffix in WITH_MEMBERS:
        head, colon, member = text.partition(f"{suffix}:")
        if colon:
            return Path(head + suffix), member
    return Path(text), None


def _existing(path: Path) -> Format:
    """The format of a path that is there and may be read."""
    if not path.exists():
        raise SourceError(f"{path}: there is no such file or folder; check the name and the place")
    found = format_of(path)
    if path.is_dir():
        if found is None or not found.folder:
            raise SourceError(f"{path}: is a folder, and its name says it is a file; give the file")
        return found
    if found is None:
        raise SourceError(f"{path}: {_unknown(path)}")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SourceError(f"{path}: cannot be read ({reason}); check its permissions") from error
    if empty:
        raise SourceError(f"{path}: the file is empty; write it again, or give another")
    return found


def _unknown(path: Path) -> str:
    if path.suffix.lower() in PICTURES:
        return "is a single image; give the folder that holds the images"
    what = f"the suffix {path.suffix!r} is not known" if path.suffix else "the name has no suffix"
    return f"{what}; use one of {KNOWN}, or a folder of PNG or JPEG images"


def _open_object(data: Any, options: Options) -> Source:
    if hasattr(data, "collect"):
        raise fault(
            IN_MEMORY, f"a {type(data).__name__} holds no rows yet; call .collect() on it first"
        )
    if isinstance(getattr(data, "schema", None), Schema):
        options.check(NOTHING, data.origin, "a source that is open already")
        return data  # type: ignore[no-any-return]
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
        return cut(recordings_of(data), None, None)
    options.check(LAYOUT | ROLES, IN_MEMORY, "an array")
    return declared(array_source(_as_array(data), layout=options.layout), dict(options.roles))


def _as_array(data: Any) -> Array:
    if isinstance(data, np.ma.MaskedArray):
        return unmasked(data)
    if not (hasattr(data, "__array__") or isinstance(data, (list, tuple))):
        formats = ", ".join(FORMATS)
        raise fault(
            IN_MEMORY,
            f"cannot read rows from a {type(data).__name__}; give an array, a tensor, a sparse "
            f"matrix, a pandas, polars or pyarrow table, or the path of one of: {formats}",
        )
    try:
        return np.asarray(data)
    except ValueError as error:
        raise fault(
            IN_MEMORY, f"the rows differ in length ({error}); make them equally long"
        ) from error
