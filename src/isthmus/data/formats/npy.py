"""A NumPy array in a .npy file, memory-mapped, or read block by block if it is large."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from isthmus.data.arrays import array_source
from isthmus.data.formats.base import Append, Format, NewFile, Options, RowNames, damage_reported
from isthmus.data.formats.values import append_array, as_array
from isthmus.data.on_disk import SMALL_BYTES, ChunkedSource, FileStamp
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.errors import SourceError
from isthmus.types import Array

PIECE_BYTES = 1 << 20
"""How many rows are read together: few, so that a shuffled window mixes many parts."""


class NpyBlocks(ChunkedSource):
    """Rows of an array in a .npy file, whose first row is at byte `offset`."""

    def __init__(self, path: Path, schema: Schema, values: np.memmap) -> None:  # type: ignore[type-arg]
        self.stamp, self.stored, self.offset = FileStamp.of(path), values.dtype, values.offset
        rows = max(1, PIECE_BYTES // max(schema.n_features * self.stored.itemsize, 1))
        bounds = np.append(np.arange(0, len(values), rows), len(values))
        super().__init__(schema, str(path), bounds, self.stored.newbyteorder("="))

    def _chunks(self, group: int) -> Iterator[Array]:
        self.stamp.check()
        with self.stamp.path.open("rb") as file:
            for start in range(
                int(self.bounds[group]), int(self.bounds[group + 1]), self.chunk_rows
            ):
                stop = min(start + self.chunk_rows, int(self.bounds[group + 1]))
                size = self.schema.n_features
                file.seek(self.offset + start * size * self.stored.itemsize)
                values = np.fromfile(file, self.stored, (stop - start) * size)
                if len(values) < (stop - start) * size:
                    self.stamp.check()
                rows = values[: len(values) // size * size].reshape(-1, *self.schema.shape)
                yield rows.astype(self.dtype, copy=False)


def read(path: Path, options: Options) -> Source:
    """A source of the array, whose rows are read from disk only when they are needed."""
    with damage_reported(path, "a .npy file", ValueError, TokenError):
        try:
            values = np.lib.format.open_memmap(path, mode="r")
        except ValueError as error:
            raise _without_pickle_hint(path, error) from error
    source = array_source(values, layout=options.layout, origin=str(path))
    large = options.stream is None and values.nbytes > SMALL_BYTES
    rows_follow = bool(values.flags.c_contiguous) and isinstance(values, np.memmap)
    if (options.stream or large) and rows_follow and len(values):
        return NpyBlocks(path, source.schema, values)
    return source


def _without_pickle_hint(path: Path, error: ValueError) -> Exception:
    if "Python objects" not in str(error):
        return error
    return SourceError(
        f"{path}: holds Python objects, which are never loaded because that can run code; "
        "save it again as numbers with .astype(float)"
    )


def write(path: Path, values: Any, schema: Schema, _names: RowNames) -> None:
    """Writes the rows as one array."""
    with path.open("wb") as file:  # Given a name, NumPy would change its suffix.
        np.save(file, as_array(path, values, schema), allow_pickle=False)


@contextmanager
def append(file: NewFile) -> Generator[Append]:
    """Writes blocks of rows as one array."""
    with file.path.open("wb") as stream:
        yield append_array(stream, file)


def read_array(path: Path, _member: str | None) -> Array:
    """The array in the file, of any dtype but objects."""
    with damage_reported(path, "a .npy file", ValueError, OSError):
        return np.asarray(np.load(path, allow_pickle=False))


NPY = Format(
    suffixes=(".npy",),
    read=read,
    write=write,
    append=append,
    understands=frozenset({"layout", "roles", "stream"}),
    read_array=read_array,
)
