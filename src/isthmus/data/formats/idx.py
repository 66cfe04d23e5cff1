"""IDX files, the format of MNIST: a short header and big-endian numbers, perhaps in gzip."""

import gzip
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.data.arrays import array_source
from isthmus.data.formats.base import Format, Options, RowNames, damage_reported
from isthmus.data.formats.values import as_array
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.errors import RequestError, SourceError
from isthmus.types import Array

STEMS = (".idx", *(f".idx{axes}" for axes in range(10)), "-ubyte", ".ubyte")
CODES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class IdxHeader(NamedTuple):
    """The header of an IDX file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int
    """The size of the header in bytes."""


def read(path: Path, options: Options) -> Source:
    """A source of the array; a file without gzip is memory-mapped."""
    with damage_reported(path, "an IDX file in gzip", gzip.BadGzipFile):
        values = load(path)
    return array_source(values, layout=options.layout, origin=str(path))


def load(path: Path) -> Array:
    """The array in the file, of any number of axes."""
    return _unzipped(path) if _is_gzip(path) else _mapped(path)


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _unzipped(path: Path) -> Array:
    with gzip.open(path) as file:
        content = file.read()
    header = _header(path, content[: 4 + 4 * 255], len(content))
    return np.frombuffer(content, header.dtype, offset=header.size).reshape(header.shape)


def _mapped(path: Path) -> Array:
    with path.open("rb") as file:
        header = _header(path, file.read(4 + 4 * 255), path.stat().st_size)
    if 0 in header.shape:
        return np.empty(header.shape, header.dtype)
    return np.memmap(path, header.dtype, "r", header.size, header.shape)


def _header(path: Path, start: bytes, total: int) -> IdxHeader:
    ranks = start[3] if len(start) >= 4 else 0
    size = 4 + 4 * ranks
    if start[:2] != b"\0\0" or len(start) < size or ranks == 0 or start[2] not in CODES:
        raise SourceError(
            f"{path}: this is not an IDX file (it starts with {start[:4].hex(' ')}, an IDX file "
            "with 00 00, a dtype and a number of axes); copy or download it again"
        )
    dtype = np.dtype(CODES[start[2]])
    shape = struct.unpack(f">{ranks}I", start[4:size])
    expected = size + dtype.itemsize * int(np.prod(shape, dtype=object))
    if total != expected:
        raise SourceError(
            f"{path}: is {'truncated' if total < expected else 'longer than it says'}: its header "
            f"{shape} calls for {expected} bytes and there are {total}; copy or download it again"
        )
    return IdxHeader(dtype, shape, size)


def write(path: Path, values: Any, schema: Schema, _names: RowNames) -> None:
    """Writes the rows; RequestError for a dtype that IDX does not support."""
    array = as_array(path, values, schema)
    wanted = array.dtype.newbyteorder(">").str.replace("|", ">")
    code = next((code for code, dtype in CODES.items() if dtype == wanted), None)
    if code is None:
        raise RequestError(
            f"{path}: IDX files cannot hold {array.dtype} values; write .npy, which keeps them"
        )
    header = struct.pack(f">2xBB{array.ndim}I", code, array.ndim, *array.shape)
    content = header + array.astype(CODES[code]).tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if _is_gzip(path) else content)


def read_array(path: Path, _member: str | None) -> Array:
    """The array in the file, of any number of axes."""
    with damage_reported(path, "an IDX file", gzip.BadGzipFile):
        return load(path)


IDX = Format(
    suffixes=(*STEMS, *(f"{stem}.gz" for stem in STEMS)),
    label=".idx (or -ubyte, perhaps with .gz)",
    read=read,
    write=write,
    read_array=read_array,
    holds_recordings=False,
)
