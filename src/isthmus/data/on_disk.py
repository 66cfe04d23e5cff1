"""The base class of sources on disk: rows are decoded in chunks, and the last few are kept."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from isthmus.data.row_numbers import NO_ROWS
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.errors import SourceError
from isthmus.types import Array, Index

SMALL_BYTES = 1 << 28
"""Files that decode to at most this size are read into memory: 256 MiB."""

CHUNK_BYTES = 1 << 24
"""The size of a decoded chunk: 16 MiB."""

CACHE_BYTES = 1 << 25
"""The size of the decoded chunks that are kept for later reads: 32 MiB."""

MAX_OPEN_GROUPS = 8
"""Groups that are read at the same time, at most."""


class FileStamp(NamedTuple):
    """Size and modification time of a file, to detect that it has changed since."""

    path: Path
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """The stamp of a file that exists."""
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime_ns)

    def check(self) -> None:
        """Raise SourceError if the file has changed or is gone."""
        try:
            now = FileStamp.of(self.path)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SourceError(
                f"{self.path}: can no longer be read ({reason}); leave the file alone while it is "
                "read"
            ) from error
        if now != self:
            raise SourceError(
                f"{self.path}: has changed since it was opened ({self.size} bytes then, {now.size} "
                "now); leave the file alone while it is read, and start again"
            )


class ChunkedSource(Source):
    """Rows in groups, each of which can be read without those before it, chunk by chunk.

    A subclass decodes a group (`_chunks`). Threads may read at the same time.
    """

    is_streamed = reads_disk = True

    def __init__(self, schema: Schema, origin: str, bounds: Index, dtype: np.dtype[Any]) -> None:
        self.schema, self.origin, self.dtype = schema, origin, dtype
        self.bounds = np.asarray(bounds, np.intp)
        """(groups + 1,): the first row of each group, and the number of all rows."""

        self.chunk_rows = rows_per_chunk(schema, self.bounds, dtype.itemsize)
        """Rows of a chunk; the last one of a group may have fewer."""

        self.open_at_once = MAX_OPEN_GROUPS
        """Groups of several chunks that may be read at the same time."""

        self._lock = threading.RLock()
        self._chunk_cache: OrderedDict[tuple[int, int], Array] = OrderedDict()
        self._open: OrderedDict[int, tuple[int, Iterator[Array]]] = OrderedDict()
        self.cached_rows = NO_ROWS
        self._cached: Array = np.empty((0, *schema.shape), dtype)

    def __len__(self) -> int:
        """How many rows there are."""
        return int(self.bounds[-1])

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy: no open files, no lock."""
        fresh: dict[str, Any] = {
            "_lock": None,
            "_chunk_cache": OrderedDict(),
            "_open": OrderedDict(),
        }
        return self.__dict__ | fresh

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state of a copy."""
        self.__dict__.update(state | {"_lock": threading.RLock()})

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), *schema.shape)."""
        rows = np.asarray(rows, np.intp)
        values = np.empty((len(rows), *self.schema.shape), self.dtype)
        if self._read_cached(rows, values):
            return values
        differences = np.diff(rows)
        distinct, order = bool((differences > 0).all()), None
        if not distinct and not (differences >= 0).all():
            order = np.argsort(rows, kind="stable")
        ordered = rows if order is None else rows[order]
        begin = 0
        while begin < len(ordered):
            group = int(np.searchsorted(self.bounds, ordered[begin], side="right")) - 1
            number = int(ordered[begin] - self.bounds[group]) // self.chunk_rows
            start = int(self.bounds[group]) + number * self.chunk_rows
            stop = min(start + self.chunk_rows, int(self.bounds[group + 1]))
            end = int(np.searchsorted(ordered, stop, side="left"))
            chunk, inside = self._chunk(group, number, stop - start), ordered[begin:end] - start
            target: slice | Index = slice(begin, end) if order is None else order[begin:end]
            values[target] = chunk if distinct and len(inside) == len(chunk) else chunk[inside]
            begin = end
        return values

    def cache_rows(self, rows: Index) -> None:
        """Keep these rows in memory from now on, instead of those of the last call."""
        self.cached_rows = NO_ROWS
        rows = np.unique(rows)
        self._cached, self.cached_rows = self.read(rows), rows

    def _read_cached(self, rows: Index, out: Array) -> bool:
        """Copy the rows into `out` if all of them are in memory; return whether they are."""
        if not len(self.cached_rows) or not len(rows):
            return False
        positions = np.searchsorted(self.cached_rows, rows)
        positions[positions == len(self.cached_rows)] = 0
        if not (self.cached_rows[positions] == rows).all():
            return False
        out[:] = self._cached[positions]
        return True

    def _chunk(self, group: int, number: int, length: int) -> Array:
        with self._lock:
            key = group, number
            if key in self._chunk_cache:
                self._chunk_cache.move_to_end(key)
                return self._chunk_cache[key]
            chunk = self._next(group, number)
            if len(chunk) != length:
                raise SourceError(
                    f"{self.origin}: expected {length} rows from row {self.bounds[group]} on, "
                    f"found {len(chunk)}; the file is damaged or has changed"
                )
            self._chunk_cache[key] = chunk
            most = max(1, CACHE_BYTES // max(chunk.nbytes, 1))
            while len(self._chunk_cache) > most:
                self._chunk_cache.popitem(last=False)
            return chunk

    def _next(self, group: int, number: int) -> Array:
        """A chunk of a group, read on from the last chunk or from the beginning of the group."""
        position, chunks = self._open.pop(group, (0, None))
        if chunks is None or position > number:
            position, chunks = 0, self._chunks(group)
        chunk: Array | None = None
        while position <= number:
            chunk, position = next(chunks, None), position + 1
            if chunk is None:
                return np.empty((0, *self.schema.shape), self.dtype)
        assert chunk is not None
        if self.bounds[group] + position * self.chunk_rows < self.bounds[group + 1]:
            self._open[group] = position, chunks
        while len(self._open) > self.open_at_once:
            self._open.popitem(last=False)
        return chunk

    def _chunks(self, group: int) -> Iterator[Array]:
        """The chunks of a group, (chunk_rows, *schema.shape) each except the last."""
        raise NotImplementedError


def rows_per_chunk(schema: Schema, bounds: Index, itemsize: int) -> int:
    """Rows of a chunk: as many as fit in 16 MiB, at most those of the largest group."""
    largest = int(np.diff(bounds).max(initial=1))
    return max(1, min(CHUNK_BYTES // (itemsize * max(numbers_per_row(schema), 1)), largest))


def numbers_per_row(schema: Schema) -> int:
    """Numbers in a row, or features of a row if they are more."""
    features = sum(column.n_features for column in schema.columns or ())
    return max(schema.n_features, features)
